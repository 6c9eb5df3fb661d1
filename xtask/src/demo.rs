//! `cargo xtask demo`: the forwarder at work between network namespaces, on one machine, in a few seconds.

mod report;
mod stage;

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use tests::{
    interrupt,
    netns::{Prefix, remove_named, require_root},
    responder::{Server, pop3, pop3_client},
    scenario::S0,
};

use crate::shell::{heading, say};
use stage::Stage;

/// What the namespaces are called that `--keep` leaves standing.
const KEPT: &str = "fw-demo";

/// The port of the rule and of the mail host.
const POP3: u16 = 110;

/// Show the forwarder at work.
#[derive(Args)]
pub struct DemoArgs {
    /// Leave everything standing, to play with
    #[arg(long)]
    keep: bool,
    /// Remove what --keep left standing
    #[arg(long, conflicts_with = "keep")]
    clean: bool,
    /// Be the mail host's POP3 server
    #[arg(long, hide = true, value_name = "ADDR", exclusive = true)]
    serve: Option<SocketAddr>,
}

/// `cargo xtask demo`.
pub fn run(args: DemoArgs) -> Result<()> {
    if let Some(address) = args.serve {
        return serve(address);
    }
    require_root()?;
    if args.clean {
        return clean();
    }
    let prefix = if args.keep {
        Prefix::fixed(KEPT)
    } else {
        Prefix::unique()
    };
    let binary = crate::build::forwarder()?;
    interrupt::on_signal(&prefix, || {})?;
    let outcome = show(&prefix, binary, args.keep);
    // After a signal the failure is only its echo, and the clean-up ends the process.
    interrupt::finished();
    outcome
}

fn show(prefix: &Prefix, binary: std::path::PathBuf, keep: bool) -> Result<()> {
    heading("hosts");
    let stage = Stage::set(prefix, binary)?;
    report::hosts(&stage)?;
    heading(&format!(
        "configuration: {}",
        stage.forwarder.config().display()
    ));
    report::indented(&std::fs::read_to_string(stage.forwarder.config())?);

    let before = stage.gateway_counters()?;
    let transcript = stage.converse()?;
    let after = stage.gateway_counters()?;
    heading(&format!(
        "conversation: the client with {}",
        S0::at_gateway(POP3)
    ));
    report::indented(&transcript.to_string());
    say(format!(
        "The mail host saw it come from {}.",
        stage.seen_by_mail_host()?
    ));

    heading("flow: `forwarder flows`");
    report::flows(&stage.forwarder)?;
    heading("rule: what `forwarder rules` and `forwarder status` count");
    let carried = report::rules(&stage.forwarder)?;
    heading("gateway: what its own stack saw of it");
    let seen = report::stack(&before, &after);

    ensure!(
        carried > 0,
        "the conversation took place, but the forwarder counted none of its packets"
    );
    if seen > 0 {
        bail!("the gateway's own stack saw {seen} packets of what it should not have seen at all");
    }
    if keep {
        report::commands(&stage);
        stage.keep();
    }
    Ok(())
}

/// Talks POP3 to whoever comes, until killed, and prints who that was.
fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    let _server = Server::on(listener, |stream| {
        println!("{}", stream.peer_addr()?.ip());
        pop3(stream)
    })?;
    println!("{}", stage::LISTENING);
    loop {
        std::thread::park();
    }
}

fn clean() -> Result<()> {
    let removed = remove_named(&Prefix::fixed(KEPT));
    if removed.is_empty() {
        say("nothing was left standing");
    } else {
        say(format!("removed {}", removed.join(", ")));
    }
    Ok(())
}
