//! `mode = "shadow"`: iptables does the work, and the forwarder says what it would have done, and whether that is the
//! same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use serde_json::Value;
use tests::netns::{Prefix, Wire};
use tests::process::wait_for;
use tests::responder::{
    Server, UdpEcho, connect, exchange, first_line, tcp_exchange, tell_ends, udp_client,
};
use tests::scenario::{Forwarder, Gateway, Netfilter, S0};

/// What the forwarder is to be compared with.
const RULES: &str = "*nat
-A PREROUTING -p tcp -m tcp --dport 110 -j DNAT --to-destination 195.228.245.1:110
-A PREROUTING -p tcp -m tcp --dport 143 -j DNAT --to-destination 195.228.245.1:144
-A PREROUTING -p udp -m udp --dport 53 -j DNAT --to-destination 195.228.245.1:53
-A POSTROUTING -j MASQUERADE
COMMIT
*filter
-A FORWARD -p tcp -m tcp --dport 995 -j DROP
COMMIT
";

/// The same, but for 143, which goes to another port, and 995, which iptables has no rule for.
const CONFIG: &str = "
[[forward]]
name = \"pop3\"
listen = \"*:110\"
to = \"195.228.245.1:110\"
source = \"masquerade\"
[[forward]]
name = \"dns\"
protocol = \"udp\"
listen = \"*:53\"
to = \"195.228.245.1:53\"
source = \"masquerade\"
[[forward]]
name = \"imap\"
listen = \"*:143\"
to = \"195.228.245.1:143\"
source = \"masquerade\"
";

/// Makes everything sweep, and so compare, often.
const TIMEOUTS: &str = "[timeouts]\nicmp = \"1s\"\n";

fn config(interface_mode: &str, rule_mode: Option<&str>) -> String {
    let mut text =
        format!("[[interface]]\nname = \"eth0\"\nmode = \"{interface_mode}\"\n{CONFIG}{TIMEOUTS}");
    if let Some(mode) = rule_mode {
        text = text.replace("listen =", &format!("mode = \"{mode}\"\nlisten ="));
    }
    text
}

fn rule(forwarder: &Forwarder, name: &str) -> Result<Value> {
    let rules = forwarder.query("rules")?;
    let mut rules = rules.as_array().context("no list")?.iter();
    let found = rules.find(|rule| rule["name"] == name);
    found.cloned().with_context(|| format!("no rule {name}"))
}

/// Waits until so many flows of a rule have been compared, and returns how many were the same and how many were not.
fn compared(forwarder: &Forwarder, name: &str, count: u64) -> Result<(u64, u64)> {
    wait_for("a comparison", Duration::from_secs(30), || {
        let rule = rule(forwarder, name).ok()?;
        let compared = &rule["shadow"]["compared"];
        let number = |what: &str| compared[what].as_u64().unwrap_or(0);
        let (agreed, different) = (number("agreed"), number("different"));
        (agreed + different + number("untracked") >= count).then_some((agreed, different))
    })
}

#[rstest]
#[case::by_interface("shadow", None, "tc")]
#[case::by_rule_on_xdp("xdp", Some("shadow"), "xdp")]
#[case::by_rule_on_tc("tc", Some("shadow"), "tc")]
fn iptables_works_and_is_compared(
    #[case] interface_mode: &str,
    #[case] rule_mode: Option<&str>,
    #[case] hook: &str,
) -> Result<()> {
    let hosts = S0::build(&Prefix::unique(), Wire::CABLE)?;
    let rules = [RULES.to_owned(), String::new()];
    let _iptables = Gateway::start_rules(&hosts.gateway, &Netfilter::Iptables(rules))?;
    let forwarder = Forwarder::start_file(&hosts.gateway, &config(interface_mode, rule_mode))?;
    let _pop3 = Server::start(&hosts.server, "195.228.245.1:110", tell_ends)?;
    let _imap = Server::start(&hosts.server, "195.228.245.1:144", tell_ends)?;
    let _dns = UdpEcho::start(&hosts.server, "195.228.245.1:53")?;

    for _ in 0..3 {
        let said = first_line(connect(&hosts.client, S0::at_gateway(110)))?;
        assert_eq!(said, "from 203.0.113.5 to 195.228.245.1:110");
    }
    let said = first_line(connect(&hosts.client, S0::at_gateway(143)))?;
    assert_eq!(said, "from 203.0.113.5 to 195.228.245.1:144");
    let names = udp_client(&hosts.client, S0::at_gateway(53))?;
    assert_eq!(exchange(&names, b"query")?, b"query");

    assert_eq!(compared(&forwarder, "pop3", 3)?, (3, 0));
    assert_eq!(compared(&forwarder, "dns", 1)?, (1, 0));
    assert_eq!(compared(&forwarder, "imap", 1)?, (0, 1));
    let pop3 = rule(&forwarder, "pop3")?;
    assert_eq!(pop3["is_shadow"], true);
    assert_eq!(pop3["shadow"]["flows_opened"], 3);
    assert_eq!(
        (&pop3["flows_opened"], &pop3["original"]["packets"]),
        (&0.into(), &0.into())
    );
    let packets = |direction: &str| pop3["shadow"][direction]["packets"].as_u64();
    assert!(
        packets("original") >= Some(9) && packets("reply") >= Some(6),
        "{pop3}"
    );
    let difference = &rule(&forwarder, "imap")?["shadow"]["compared"]["last_difference"];
    assert_eq!(difference["destination"], "203.0.113.5:143");
    assert_eq!(
        difference["forwarder"],
        "to 195.228.245.1:143 as 203.0.113.5"
    );
    assert_eq!(difference["kernel"], "to 195.228.245.1:144 as 203.0.113.5");

    let status = forwarder.query("status")?;
    assert_eq!(status["interfaces"][0]["hook"], hook);
    assert_eq!(status["shadow"]["rules"], 3);
    assert_eq!(status["shadow"]["unavailable"], Value::Null);
    assert_eq!(status["forwarded"]["bytes"], 0);
    assert_eq!(status["dropped_packets"], 0);
    let listing = forwarder.listing("rules")?;
    ensure!(
        listing.contains("conntrack agrees on 3, differs on 0"),
        "{listing}"
    );
    ensure!(forwarder.listing("flows")?.contains("rule pop3 (shadow)"));
    ensure!(
        forwarder
            .listing("status")?
            .contains("counted and left to the kernel")
    );
    Ok(())
}

/// Where nothing in the kernel forwards, conntrack has another opinion.
#[test]
fn without_rules_the_kernel_differs() -> Result<()> {
    let hosts = S0::build(&Prefix::unique(), Wire::CABLE)?;
    let other = "*nat\n-A PREROUTING -p tcp -m tcp --dport 9 -j DNAT --to-destination 195.228.245.1:9\nCOMMIT\n";
    let rules = [other.to_owned(), String::new()];
    let _iptables = Gateway::start_rules(&hosts.gateway, &Netfilter::Iptables(rules))?;
    let forwarder = Forwarder::start_file(&hosts.gateway, &config("shadow", None))?;
    let _own = Server::start(&hosts.gateway, "203.0.113.5:110", tell_ends)?;
    let said = first_line(connect(&hosts.client, S0::at_gateway(110)))?;
    assert_eq!(said, "from 198.51.100.7 to 203.0.113.5:110");
    assert_eq!(compared(&forwarder, "pop3", 1)?, (0, 1));
    let difference = &rule(&forwarder, "pop3")?["shadow"]["compared"]["last_difference"];
    assert_eq!(difference["kernel"], "to 203.0.113.5:110 as 198.51.100.7");
    Ok(())
}

/// What an operator does: watch, then take the line out and reload. Connections that iptables has begun go on.
#[test]
fn the_change_over_breaks_nothing() -> Result<()> {
    let hosts = S0::build(&Prefix::unique(), Wire::CABLE)?;
    let rules = [RULES.to_owned(), String::new()];
    let _iptables = Gateway::start_rules(&hosts.gateway, &Netfilter::Iptables(rules))?;
    let mut forwarder = Forwarder::start_file(&hosts.gateway, &config("auto", Some("shadow")))?;
    let _server = Server::start(&hosts.server, "195.228.245.1:110", tests::responder::echo)?;
    let mut old = connect(&hosts.client, S0::at_gateway(110))?;
    assert_eq!(tcp_exchange(&mut old, b"before")?, b"before");

    let text = std::fs::read_to_string(forwarder.config())?.replace("mode = \"shadow\"\n", "");
    std::fs::write(forwarder.config(), text)?;
    forwarder.listing("reload")?;

    let mut new = connect(&hosts.client, S0::at_gateway(110))?;
    assert_eq!(tcp_exchange(&mut new, b"new")?, b"new");
    assert_eq!(tcp_exchange(&mut old, b"after")?, b"after");
    let pop3 = rule(&forwarder, "pop3")?;
    assert_eq!(
        (&pop3["is_shadow"], &pop3["flows_opened"]),
        (&false.into(), &1.into())
    );
    assert_eq!(pop3["shadow"]["flows_opened"], 1);
    let old_flows = forwarder.query("flows")?;
    let shadows = old_flows.as_array().context("no list")?.iter();
    assert_eq!(shadows.filter(|flow| flow["shadow"] == true).count(), 1);
    forwarder.stop()
}
