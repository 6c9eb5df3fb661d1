//! What the demonstration shows.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{
    netns::Counters,
    scenario::{Forwarder, S0},
};

use super::{POP3, stage::Stage};
use crate::shell::{heading, say};

/// Prints a text as it is, set in.
pub fn indented(text: &str) {
    for line in text.trim_end().lines() {
        match line.trim_end() {
            "" => println!(),
            line => say(line),
        }
    }
}

/// Who is who.
pub fn hosts(stage: &Stage) -> Result<()> {
    let forward = stage.hosts.gateway.sysctl_value("net/ipv4/ip_forward")?;
    let (device, forward) = (S0::DEVICE, forward.trim());
    let row = |who, address, what| say(format!("{who:<10} {address:<14} {what}"));
    row(
        "client",
        S0::CLIENT,
        "has no way to the mail host".to_owned(),
    );
    row(
        "gateway",
        S0::GATEWAY,
        format!("one interface, {device}; ip_forward is {forward}"),
    );
    row("mail host", S0::SERVER, format!("POP3 on port {POP3}"));
    Ok(())
}

/// The listing of flows, which has one long line a flow, broken where the directions begin.
pub fn flows(forwarder: &Forwarder) -> Result<()> {
    let listing = forwarder.listing("flows")?;
    let broken = ["original ", "reply ", "age "]
        .iter()
        .fold(listing, |text, column| {
            text.replace(&format!("  {column}"), &format!("\n    {column}"))
        });
    indented(&broken);
    Ok(())
}

/// Packets by rule and by hook. Returns how many there were.
pub fn rules(forwarder: &Forwarder) -> Result<u64> {
    let rules = forwarder.query("rules")?;
    let mut total = 0;
    say(format!(
        "{:<10} {:>9} {:>6} {:>6} {:>4}",
        "rule", "original", "reply", "XDP", "TC"
    ));
    for rule in rules
        .as_array()
        .context("`forwarder rules --json` is not a list")?
    {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let (original, reply) = (
            number(&rule["original"]["packets"]),
            number(&rule["reply"]["packets"]),
        );
        let (xdp, tc) = (number(&rule["xdp_packets"]), number(&rule["tc_packets"]));
        let name = rule["name"].as_str().unwrap_or("?");
        say(format!(
            "{name:<10} {original:>9} {reply:>6} {xdp:>6} {tc:>4}   packets"
        ));
        total += original + reply;
    }
    let status = forwarder.query("status")?;
    for interface in status["interfaces"].as_array().into_iter().flatten() {
        let text = |key: &str| interface[key].as_str().unwrap_or("?").to_owned();
        say(format!(
            "{} is served at the hook {}.",
            text("name"),
            text("hook")
        ));
    }
    Ok(total)
}

/// What of the conversation entered the gateway's stack. Returns how many packets that were.
pub fn stack(before: &Counters, after: &Counters) -> u64 {
    let counters = [
        ("Ip.InReceives", "IP packets received"),
        ("Ip.ForwDatagrams", "IP packets forwarded"),
        ("Tcp.InSegs", "TCP segments received"),
    ];
    for (name, meaning) in counters {
        say(format!(
            "{:>3}  {meaning:<22} {name}",
            after.since(before, name)
        ));
    }
    say("ARP is not counted here: it is not IP, and the stack does resolve addresses.");
    after.since(before, "Ip.InReceives")
}

/// What to do with a demonstration that was left standing.
pub fn commands(stage: &Stage) {
    heading("still standing");
    let client = stage.hosts.client.name();
    let (binary, socket) = (stage.forwarder.binary().display(), stage.forwarder.socket());
    let socket = socket.display();
    say("Connect once more, or capture on the gateway while you do:");
    say(format!(
        "    ip netns exec {client} bash -c 'exec 3<>/dev/tcp/{}/{POP3}; head -1 <&3; echo QUIT >&3; cat <&3'",
        S0::GATEWAY
    ));
    say(format!(
        "    ip netns exec {} tcpdump -ni gateway",
        stage.hosts.internet.name()
    ));
    say("Look:");
    for listing in ["status", "rules", "flows", "drops"] {
        say(format!("    {binary} {listing} --socket {socket}"));
    }
    say("Remove it:");
    say("    cargo xtask demo --clean");
}
