//! Steps at which a test has the daemon die or fail, to see what the next start makes of what is left.
//!
//! Named by the environment variable [`VARIABLE`], which nobody but a test sets: `die:STEP` or `fail:STEP`, and with
//! `@N` behind it at the N-th time only.
//!
//! [`VERSION`] has the build pass for another version: `ABI`, or `ABI:STATE` with another layout of flows, too.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use forwarder_common::{
    ABI,
    layout::{LAYOUTS, Layouts, STATE},
};

/// Names what is to happen where.
pub const VARIABLE: &str = "FORWARDER_FAULT";

/// Names the version that the build is to pass for.
pub const VERSION: &str = "FORWARDER_VERSION";

/// [`ABI`], unless a test wants another.
pub fn abi() -> u32 {
    version().map_or(ABI, |(abi, _)| abi)
}

/// [`LAYOUTS`], unless a test wants others.
pub fn layouts() -> Layouts {
    let mut layouts = LAYOUTS;
    if let Some((_, Some(state))) = version() {
        layouts[STATE] = state;
    }
    layouts
}

fn version() -> Option<(u32, Option<u32>)> {
    let text = std::env::var(VERSION).ok()?;
    match text.split_once(':') {
        Some((abi, state)) => Some((abi.parse().ok()?, Some(state.parse().ok()?))),
        None => Some((text.parse().ok()?, None)),
    }
}

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
    Carry "carry" "After a map of another version is pinned once more.";
    Load "load" "After maps and programs are loaded, before any is at work.";
    Links "links" "After a link of another version is taken over.";
    Rules "rules" "After the rules are in force, before devices are served.";
    Attach "attach" "After a device is served.";
    Flows "flows" "Before flows are judged by the rules in force.";
    Sweep "sweep" "Before expired flows are removed.";
}

/// What [`VARIABLE`] says.
struct Plan {
    dies: bool,
    step: Step,
    /// At which time; `None` for every time.
    time: Option<u64>,
}

/// Dies or fails here, if a test wants it.
///
/// # Errors
/// A test wants it.
pub fn at(step: Step) -> anyhow::Result<()> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    let plan = PLAN.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(plan) = plan.as_ref().filter(|plan| plan.step == step) else {
        return Ok(());
    };
    let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    if plan.time.is_some_and(|time| time != passed) {
        return Ok(());
    }
    if plan.dies {
        std::process::abort();
    }
    anyhow::bail!("{VARIABLE} has {} fail", step.name())
}

fn parse(text: &str) -> Option<Plan> {
    let (what, name) = text.split_once(':')?;
    let (name, time) = match name.split_once('@') {
        Some((name, time)) => (name, Some(time.parse().ok()?)),
        None => (name, None),
    };
    let step = Step::ALL.iter().find(|step| step.name() == name)?;
    Some(Plan {
        dies: match what {
            "die" => true,
            "fail" => false,
            _ => return None,
        },
        step: *step,
        time,
    })
}
