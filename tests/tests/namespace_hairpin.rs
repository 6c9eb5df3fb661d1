//! S3, its inside half: everybody uses the public address, and the mail host sees who it was, except for its own
//! neighbours: those it would answer directly, past the gateway, so to it they are the gateway.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::netns::Namespace;
use tests::responder::{
    Bulk, Direction, Server, UdpEcho, bulk_transfer, connect, connect_within, pop3, pop3_client,
    udp_exchange,
};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baseline, Engine, Family, Hairpin, Outcome, Rig, Rule};

const MEGABYTE: u64 = 1_000_000;

fn rules(family: Family) -> [Rule; 3] {
    let rule = |name, v4: [&'static str; 2], v6: [&'static str; 2]| {
        let [listen, to] = family.pick(v4, v6);
        Rule {
            hairpin: Some(family.pick("10.1.0.0/24", "2001:db8:a::/64")),
            ..Rule::preserve(name, listen, to)
        }
    };
    [
        rule(
            "pop3",
            ["203.0.113.5:110", "10.1.0.2:110"],
            ["[2001:db8:113::5]:110", "[2001:db8:a::2]:110"],
        ),
        rule(
            "bulk",
            ["203.0.113.5:9000", "10.1.0.2:9001"],
            ["[2001:db8:113::5]:9000", "[2001:db8:a::2]:9001"],
        ),
        rule(
            "echo",
            ["203.0.113.5:7", "10.1.0.2:7"],
            ["[2001:db8:113::5]:7", "[2001:db8:a::2]:7"],
        )
        .udp(),
    ]
}

/// Who the mail host is to see, for each of the clients.
fn clients(hosts: &Hairpin, family: Family) -> [(&'static str, &Namespace, IpAddr); 3] {
    [
        ("outside", &hosts.outside, Hairpin::outside(family)),
        ("staff", &hosts.staff, Hairpin::staff(family)),
        ("neighbour", &hosts.neighbour, Hairpin::router(family)),
    ]
}

fn scenario(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::hairpin(engine, &rules(family))?;
    let mail = &rig.hosts.mail;
    let at = |port| Hairpin::mail(family, port).to_string();
    let mailbox = Server::start(mail, &at(110), pop3)?;
    let bulk = Server::start(mail, &at(9001), Bulk::serve)?;
    let datagrams = UdpEcho::start(mail, &at(7))?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for (name, client, expected) in clients(hosts, family) {
            let converse = || {
                let fetched = pop3_client(connect(client, Hairpin::public(family, 110))?)?;
                let answer = udp_exchange(client, Hairpin::public(family, 7), name.as_bytes())?;
                ensure!(answer == name.as_bytes(), "other bytes came back");
                let stream = connect(client, Hairpin::public(family, 9000))?;
                let [sent, received] = bulk_transfer(stream, Direction::Download, 2 * MEGABYTE, 5)?;
                ensure!(sent == received, "other bytes arrived");
                Ok(fetched)
            };
            let fetched = converse().with_context(|| format!("as {name}"))?;
            for peers in [mailbox.peers(), bulk.peers(), datagrams.peers()] {
                let seen = peers.last().map(SocketAddr::ip);
                ensure!(seen == Some(expected), "{name} was seen as {seen:?}");
            }
            outcome = outcome.with(name, fetched);
        }
        Ok(outcome)
    })
}

#[rstest]
fn everybody_uses_the_public_address(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family
        .among(&BASELINE)
        .compare(engine, |engine| scenario(engine, family))
}

/// All of them at the same time, so that nobody's replies depend on what another one did.
#[rstest]
fn everybody_at_once(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    let rig = Rig::hairpin(engine, &rules(family))?;
    let address = Hairpin::mail(family, 9001).to_string();
    let _bulk = Server::start(&rig.hosts.mail, &address, Bulk::serve)?;
    rig.observe(|hosts| {
        std::thread::scope(|scope| {
            let transfers = clients(hosts, family).map(|(name, client, _)| {
                scope.spawn(move || -> Result<()> {
                    let stream = connect(client, Hairpin::public(family, 9000))?;
                    let [sent, received] =
                        bulk_transfer(stream, Direction::Upload, 10 * MEGABYTE, 7)
                            .with_context(|| format!("as {name}"))?;
                    ensure!(sent == received, "{name}: other bytes arrived");
                    Ok(())
                })
            });
            transfers
                .into_iter()
                .try_for_each(|transfer| transfer.join().expect("a transfer"))
        })
    })
}

/// The check itself: without the gateway's address as source, the mail host answers its neighbour directly.
#[test]
fn a_direct_answer_would_be_noticed() -> Result<()> {
    let rules = rules(Family::V4).map(|rule| Rule {
        hairpin: None,
        ..rule
    });
    let rig = Rig::hairpin(IPTABLES, &rules)?;
    let _mailbox = Server::start(&rig.hosts.mail, "10.1.0.2:110", pop3)?;
    let public = Hairpin::public(Family::V4, 110);
    connect(&rig.hosts.staff, public)?;
    connect_within(&rig.hosts.neighbour, public, Duration::from_millis(1500))
        .map(drop)
        .expect_err("the answer must come from the public address");
    Ok(())
}
