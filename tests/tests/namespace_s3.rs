//! S3, its outside half: two public addresses on two uplinks, the mail host sees the client, and the reply leaves by
//! the way the request came.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use tests::netns::{Namespace, Prefix, Wire};
use tests::responder::{Server, connect, connect_within, pop3, pop3_client, smtp, smtp_client};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baseline, Engine, Gateway, GatewayConfig, Outcome, Rig, Rule, S3};

const RULES: [Rule; 3] = [
    Rule::preserve("pop3-1", "203.0.113.5:110", "10.1.0.2:110"),
    Rule::preserve("pop3-2", "192.0.2.5:110", "10.1.0.2:110"),
    Rule::preserve("smtp-2", "192.0.2.5:25", "10.1.0.2:2525"),
];

/// What an uplink that is not in use may carry: address resolution. A conversation is more than a dozen packets.
const NOISE: u64 = 6;

/// Fetches mail by the public address of `uplink`, checks which way the replies took, and returns what was said.
fn fetch(hosts: &S3, client: &Namespace, uplink: usize) -> Result<String> {
    let replies = || -> Result<[u64; 2]> {
        let count =
            |device| Ok::<_, anyhow::Error>(hosts.internet.device_counters(device)?.rx_packets);
        Ok([count("up1")?, count("up2")?])
    };
    let before = replies()?;
    let transcript = pop3_client(connect(client, S3::public(uplink, 110))?)?;
    let after = replies()?;
    let moved = [after[0] - before[0], after[1] - before[1]];
    ensure!(
        moved[uplink - 1] > NOISE && moved[2 - uplink] <= NOISE,
        "asked by uplink {uplink}, but the uplinks carried {moved:?} packets of replies"
    );
    Ok(transcript.to_string())
}

fn scenario(engine: Engine) -> Result<Outcome> {
    let rig = Rig::s3(engine, &RULES)?;
    let mailbox = Server::start(&rig.hosts.mail, "10.1.0.2:110", pop3)?;
    let exchanger = Server::start(&rig.hosts.mail, "10.1.0.2:2525", smtp)?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for (client, truth) in [(&hosts.near, "198.51.100.7"), (&hosts.far, "198.18.0.7")] {
            for uplink in [1, 2] {
                let said = fetch(hosts, client, uplink)?;
                let seen = mailbox.peers().last().map(std::net::SocketAddr::ip);
                ensure!(
                    seen == Some(truth.parse::<IpAddr>()?),
                    "{truth} was seen as {seen:?}"
                );
                outcome = outcome.with(&format!("{truth} by uplink {uplink}"), said);
            }
        }
        let sent = smtp_client(
            connect(&hosts.far, S3::public(2, 25))?,
            "Subject: hello\n\nbody",
        )?;
        Ok(outcome
            .with("SMTP", sent)
            .with_debug("SMTP peers", exchanger.peer_addresses()))
    })
}

#[rstest]
fn replies_leave_by_the_way_requests_came(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, scenario)
}

/// The check itself: iptables without policy routing answers by the default route, and that has to be noticed.
#[test]
fn a_reply_by_the_wrong_uplink_would_be_noticed() -> Result<()> {
    let hosts = S3::build(&Prefix::unique(), Wire::CABLE)?;
    let config = GatewayConfig {
        interfaces: vec!["wan1", "wan2", "lan0"],
        rules: RULES.to_vec(),
        ..GatewayConfig::default()
    };
    let _gateway = Gateway::start(Engine::Iptables, &hosts.gateway, &config)?;
    let _mailbox = Server::start(&hosts.mail, "10.1.0.2:110", pop3)?;
    connect_within(&hosts.near, S3::public(2, 110), Duration::from_secs(2))
        .expect_err("the reply left by the wrong uplink and must not arrive");
    fetch(&hosts, &hosts.near, 1).map(drop)
}
