//! Steps at which a test has the daemon die or fail, to see what the next start makes of what is left.
//!
//! Named by the environment variable [`VARIABLE`], which nobody but a test sets: `die:STEP` or `fail:STEP`.

use std::sync::OnceLock;

/// Names what is to happen where.
pub const VARIABLE: &str = "FORWARDER_FAULT";

macro_rules! steps {
    ($($variant:ident $name:literal $doc:literal;)+) => {
        /// A step of the daemon's work that leaves something behind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $(#[doc = $doc] $variant,)+
        }

        impl Step {
            /// Every step.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As [`VARIABLE`] has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

steps! {
    Sweep "sweep" "Before expired flows are removed.";
}

/// What [`VARIABLE`] says.
struct Plan {
    dies: bool,
    step: Step,
}

/// Dies or fails here, if a test wants it.
///
/// # Errors
/// A test wants it.
pub fn at(step: Step) -> anyhow::Result<()> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    match plan {
        Some(plan) if plan.step == step && plan.dies => std::process::abort(),
        Some(plan) if plan.step == step => anyhow::bail!("{VARIABLE} has {} fail", step.name()),
        _ => Ok(()),
    }
}

fn parse(text: &str) -> Option<Plan> {
    let (what, name) = text.split_once(':')?;
    let step = Step::ALL.iter().find(|step| step.name() == name)?;
    Some(Plan {
        dies: match what {
            "die" => true,
            "fail" => false,
            _ => return None,
        },
        step: *step,
    })
}
