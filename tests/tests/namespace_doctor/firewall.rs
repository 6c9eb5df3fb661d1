//! Netfilter's rules and connections, made with each of the three tools.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::process::output;
use tests::responder::{Server, connect, echo, tcp_exchange};
use tests::scenario::S0;

use crate::patient::{POP3, Patient, s0};

const LEGACY: &str = "iptables-legacy";
const COMPATIBLE: &str = "iptables-nft";
const PATIENCE: Duration = Duration::from_secs(20);

/// Port 110 is delivered to 2525.
fn delivering() -> String {
    POP3.replace("195.228.245.1:110", "local:2525")
        .replace("source = \"masquerade\"\n", "")
}

#[rstest]
#[case::nft_policy(
    "nft 'table inet f { chain in { type filter hook input priority 0; policy drop; ct state established,related accept; iifname lo accept; tcp dport { 22, 110 } accept; }; }'"
)]
#[case::nft_rule(
    "nft 'table ip f { chain in { type filter hook input priority 0; tcp dport 2000-3000 counter drop; }; }'"
)]
#[case::nft_prerouting(
    "nft 'table inet f { chain pre { type filter hook prerouting priority raw; ip daddr 203.0.113.5 tcp dport 2525 drop; }; }'"
)]
#[case::legacy(format!("{LEGACY} -P INPUT DROP && {LEGACY} -A INPUT -p tcp --dport 110 -j ACCEPT"))]
#[case::legacy_chain(format!("{LEGACY} -N F && {LEGACY} -A INPUT -i eth0 -j F && {LEGACY} -A F -p tcp -m multiport --dports 25,2525 -j REJECT"))]
#[case::compatible(format!("{COMPATIBLE} -P INPUT DROP && {COMPATIBLE} -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"))]
#[case::compatible_multiport(format!("{COMPATIBLE} -A INPUT -p tcp -m multiport --dports 25,2525 -j DROP"))]
fn what_is_delivered_is_dropped(#[case] rules: String) -> Result<()> {
    let hosts = s0()?;
    let _service = Server::start(&hosts.gateway, "0.0.0.0:2525", echo)?;
    let patient = Patient::new(&hosts.gateway, &delivering())?;
    patient.healed("firewall-drops")?;
    patient.shell(&rules)?;
    patient.mended("firewall-drops", "error")
}

#[test]
fn what_is_let_in_is_no_finding() -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, &delivering())?;
    patient.shell(
        "nft 'table inet f { \
           set open { type inet_service; flags interval; elements = { 25, 2500-2600 }; }; \
           chain services { tcp dport @open accept; }; \
           chain in { type filter hook input priority 0; policy drop; \
             ct state vmap { established : accept, related : accept, invalid : drop }; jump services; }; }'",
    )?;
    patient.healed("firewall-drops")
}

#[rstest]
#[case::nft(
    "nft 'table ip n { chain pre { type nat hook prerouting priority dstnat; tcp dport 110 dnat to 10.0.0.1; }; }'"
)]
#[case::legacy(format!("{LEGACY} -t nat -A PREROUTING -i eth0 -p tcp -d 203.0.113.5 --dport 110 -m comment --comment 'to the mail host' -j DNAT --to-destination 10.0.0.1:110"))]
#[case::compatible(format!("{COMPATIBLE} -t nat -A PREROUTING -p tcp -m multiport --dports 25,110 -j REDIRECT --to-ports 2525"))]
fn rules_that_do_the_same(#[case] rules: String) -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    patient.shell(&rules)?;
    patient.mended("firewall-duplicates", "note")
}

const OUTPUT: &str = "\
[[interface]]
name = \"eth0\"
[[output]]
name = \"smtp\"
to-address = \"195.228.245.1:25\"
to = \"195.228.245.1:986\"
";

#[rstest]
#[case::rewritten(
    format!("{LEGACY} -t nat -A OUTPUT -p tcp --dport 25 -j DNAT --to-destination 195.228.245.1:26"),
    "firewall-rewrites"
)]
#[case::dropped(
    "nft 'table inet f { chain out { type filter hook output priority 0; ip daddr 195.228.245.1 tcp dport 25 reject; }; }'".to_owned(),
    "firewall-drops"
)]
fn what_an_output_is_for(#[case] rules: String, #[case] check: &str) -> Result<()> {
    let hosts = s0()?;
    let patient = Patient::new(&hosts.gateway, OUTPUT)?;
    patient.shell(&rules)?;
    patient.mended(check, "error")
}

/// Somebody is connected by the DNAT rule that is to be replaced.
#[test]
fn connections_that_would_break() -> Result<()> {
    let hosts = s0()?;
    let _server = Server::start(&hosts.server, "195.228.245.1:110", echo)?;
    let patient = Patient::new(&hosts.gateway, POP3)?;
    hosts.gateway.forward(true)?;
    patient.shell(&format!(
        "{LEGACY} -t nat -A PREROUTING -p tcp --dport 110 -j DNAT --to-destination 195.228.245.1:110 && \
         {LEGACY} -t nat -A POSTROUTING -j MASQUERADE"
    ))?;
    let mut stream = connect(&hosts.client, S0::at_gateway(110))?;
    tcp_exchange(&mut stream, b"still here")?;
    let finding = patient.finding("tracked-connections", "warning")?;
    let what = finding["what"].as_str().context("no text")?;
    ensure!(what.starts_with("1 connection goes"), "{what}");
    // They are over.
    let mut conntrack = hosts.gateway.command("conntrack");
    output(
        conntrack.args(["-D", "-p", "tcp", "--orig-port-dst", "110"]),
        PATIENCE,
    )?;
    patient.healed("tracked-connections")
}
