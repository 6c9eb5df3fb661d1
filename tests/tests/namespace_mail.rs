//! S0 with real software: a message goes in through Postfix and comes out of Dovecot by POP3 and IMAP, all of it
//! through a gateway with one interface.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};
use rstest::rstest;
use tests::mail::{DOMAIN, Dovecot, PASSWORD, Postfix, USER};
use tests::process::{self, wait_for};
use tests::responder::{Talk, connect};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baseline, Engine, Outcome, Rig, Rule, S0};

const RULES: [Rule; 3] = [
    Rule::masquerade("smtp", "203.0.113.5:25", "195.228.245.1:25"),
    Rule::masquerade("pop3", "203.0.113.5:110", "195.228.245.1:110"),
    Rule::masquerade("imap", "203.0.113.5:143", "195.228.245.1:143"),
];

const SERVER: Ipv4Addr = Ipv4Addr::new(195, 228, 245, 1);

/// A line of the body that begins with a dot, which SMTP and POP3 both have to double and undouble.
const BODY: &str = "Sent with swaks.\n.dot\nEnd.";

fn send(hosts: &S0) -> Result<String> {
    let mut swaks = hosts.client.command("swaks");
    swaks.args([
        "--server",
        S0::GATEWAY,
        "--helo",
        "client.example.org",
        "--timeout",
        "20",
    ]);
    swaks.args([
        "--from",
        "sender@example.org",
        "--to",
        &format!("{USER}@{DOMAIN}"),
    ]);
    swaks.args([
        "--header",
        "Subject: Through the gateway",
        "--body",
        BODY,
        "--hide-informational",
    ]);
    let said = process::output(&mut swaks, Duration::from_secs(60))
        .context("Debian's package is swaks")?;
    // Greeting, capabilities and answers, less the queue's identifier.
    let answers = said.lines().filter(|line| line.starts_with("<-"));
    Ok(answers
        .map(|line| line.split(" as ").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n"))
}

/// The message without what differs from run to run: times and the queue's identifiers.
fn stable(lines: &[String]) -> String {
    let volatile = [
        "Date:",
        "Message-Id:",
        "X-Mailer:",
        "\tby ",
        "\tfor ",
        "* 1 FETCH",
        "+OK",
    ];
    let kept = lines
        .iter()
        .filter(|line| !volatile.iter().any(|start| line.starts_with(start)));
    kept.map(|line| line.clone() + "\n").collect()
}

/// Fetches by POP3, as soon as the message has been delivered.
fn fetch_pop3(hosts: &S0) -> Result<Vec<String>> {
    let mut talk = wait_for("delivery", Duration::from_secs(20), || {
        log_in(hosts).transpose()
    })??;
    talk.say("RETR 1")?;
    let lines = talk.hear_to_dot()?;
    talk.ask("QUIT", "+OK")?;
    Ok(lines)
}

fn log_in(hosts: &S0) -> Result<Option<Talk>> {
    let mut talk = Talk::client(connect(&hosts.client, S0::at_gateway(110))?);
    talk.expect("+OK")?;
    talk.ask(&format!("USER {USER}"), "+OK")?;
    talk.ask(&format!("PASS {PASSWORD}"), "+OK")?;
    let delivered = talk.ask("STAT", "+OK")?.starts_with("+OK 1 ");
    Ok(delivered.then_some(talk))
}

fn fetch_imap(hosts: &S0) -> Result<Vec<String>> {
    let mut talk = Talk::client(connect(&hosts.client, S0::at_gateway(143))?);
    talk.expect("* OK")?;
    talk.say(&format!("a LOGIN {USER} {PASSWORD}"))?;
    talk.hear_until("a OK")?;
    talk.say("b SELECT INBOX")?;
    talk.hear_until("b OK")?;
    talk.say("c FETCH 1 BODY[]")?;
    let mut lines = talk.hear_until("c OK")?;
    // ")" and the tagged answer.
    lines.truncate(lines.len().saturating_sub(2));
    talk.say("d LOGOUT")?;
    talk.hear_until("d OK")?;
    Ok(lines)
}

fn scenario(engine: Engine) -> Result<Outcome> {
    let rig = Rig::s0(engine, &RULES)?;
    let directory = tempfile::Builder::new().prefix("fw-mail-").tempdir()?;
    // Servers that gave up root have to pass through.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let _postfix = Postfix::start(&rig.hosts.server, SERVER, directory.path())?;
    let _dovecot = Dovecot::start(&rig.hosts.server, SERVER, directory.path())?;
    rig.observe(|hosts| {
        let answers = send(hosts)?;
        let by_pop3 = fetch_pop3(hosts).context("by POP3")?;
        let by_imap = fetch_imap(hosts).context("by IMAP")?;
        Ok(Outcome::default()
            .with("SMTP answers", answers)
            .with("fetched by POP3", stable(&by_pop3))
            .with("fetched by IMAP", stable(&by_imap)))
    })
}

#[rstest]
fn mail_passes_the_gateway(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| {
        let outcome = scenario(engine)?;
        let fetched = outcome.get("fetched by POP3").unwrap_or_default();
        assert!(
            fetched.contains("Sent with swaks.\n..dot\nEnd.\n"),
            "{fetched}"
        );
        // What the server saw of the client: the gateway's address, as S0 masquerades.
        assert!(fetched.contains("[203.0.113.5]"), "{fetched}");
        Ok(outcome)
    })
}

/// The rig itself: without the gateway there is no way from the client to the server.
#[test]
fn the_server_cannot_be_reached_directly() -> Result<()> {
    let rig = Rig::s0(IPTABLES, &RULES)?;
    let _server = tests::responder::Server::start(
        &rig.hosts.server,
        "195.228.245.1:110",
        tests::responder::pop3,
    )?;
    connect(&rig.hosts.client, S0::at_gateway(110))?;
    connect(&rig.hosts.client, S0::at_server(110)).expect_err("only the gateway's path may work");
    Ok(())
}
