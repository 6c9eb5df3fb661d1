//! From a configuration to netfilter's rules.

mod iptables;
mod nft;
mod plan;
mod rules;

use std::fmt::Write as _;

use crate::config::{Config, Filtering, Timeouts};
use plan::Plan;

use super::ruleset::Family;

/// The rules of one family as `iptables-restore` or `ip6tables-restore` takes them.
pub fn iptables(config: &Config, family: Family) -> String {
    let plan = Plan::of(config, family);
    let (program, other) = match family {
        Family::V4 => ("iptables-restore", "--ipv6"),
        Family::V6 => ("ip6tables-restore", "no --ipv6"),
    };
    let mut text = format!(
        "# What the configuration says about {family}, made by `forwarder export iptables`. Load it with\n\
         # `{program} --noflush FILE`: other rules stay, and this can be loaded once.\n"
    );
    let others = [Family::V4, Family::V6]
        .into_iter()
        .filter(|one| *one != family);
    for one in others.filter(|one| Plan::of(config, *one).rule_count() > 0) {
        let _ = writeln!(
            text,
            "# There are rules for {one} as well: export them with {other}."
        );
    }
    remarks(&mut text, config, &plan);
    text + &iptables::tables(&plan)
}

/// All rules as a file for `nft -f`.
pub fn nft(config: &Config) -> String {
    let plans = [Family::V4, Family::V6].map(|family| Plan::of(config, family));
    let mut text = "# What the configuration says, made by `forwarder export nft`. Load it with `nft -f FILE`:\n\
                    # the tables `forwarder` are made anew, others stay.\n"
        .to_owned();
    for plan in plans.iter().filter(|plan| plan.rule_count() > 0) {
        remarks(&mut text, config, plan);
        text += &nft::table(plan);
    }
    text
}

/// What netfilter cannot do, or does otherwise.
fn remarks(text: &mut String, config: &Config, plan: &Plan) {
    let mut lines = vec![
        "Packets are routed by the kernel: `sysctl -w net.ipv4.ip_forward=1`, for IPv6 \
         `net.ipv6.conf.all.forwarding=1`."
            .to_owned(),
        "Rules of the chain FORWARD that others have made must let them through.".to_owned(),
    ];
    lines.extend(plan.remarks.iter().cloned());
    lines.extend(settings(config));
    for line in lines {
        let _ = writeln!(text, "# {line}");
    }
}

fn settings(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if config.rules.iter().any(|rule| rule.reset_unknown) {
        lines.push(
            "`reset-unknown` has no equivalent: connections that are picked up are not reset."
                .to_owned(),
        );
    }
    let unfiltered = config.masquerades.iter();
    let mut unfiltered = unfiltered.filter(|rule| rule.filtering == Filtering::EndpointIndependent);
    if unfiltered.next().is_some() {
        lines.push(
            "`filtering = \"endpoint-independent\"` has no equivalent: only servers that a client has sent to can \
             answer it."
                .to_owned(),
        );
    }
    let limits = config.limits;
    if limits.flows != crate::config::Limits::default().flows {
        lines.push(format!(
            "`flows`: `sysctl -w net.netfilter.nf_conntrack_max={}`.",
            limits.flows
        ));
    }
    let (set, default) = (config.timeouts, Timeouts::default());
    let names = [
        (
            "tcp_timeout_established",
            set.tcp_established,
            default.tcp_established,
        ),
        (
            "tcp_timeout_syn_sent",
            set.tcp_half_open,
            default.tcp_half_open,
        ),
        (
            "tcp_timeout_time_wait",
            set.tcp_transitory,
            default.tcp_transitory,
        ),
        ("udp_timeout", set.udp, default.udp),
        ("udp_timeout_stream", set.udp_stream, default.udp_stream),
        ("icmp_timeout", set.icmp, default.icmp),
    ];
    for (name, set, default) in names {
        if set != default {
            let seconds = set.as_secs();
            lines.push(format!(
                "`[timeouts]`: `sysctl -w net.netfilter.nf_conntrack_{name}={seconds}`."
            ));
        }
    }
    lines
}
