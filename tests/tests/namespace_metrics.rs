//! Metrics as Prometheus sees them: what they say of real traffic, and where they are to be had.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rstest::rstest;
use serde_json::Value;
use tests::netns::{Namespace, Prefix, Wire};
use tests::process::{output, wait_for, wait_until};
use tests::responder::{
    Server, UdpEcho, connect, connect_within, echo, tcp_exchange, udp_exchange,
};
use tests::scenario::{Forwarder, GatewayConfig, Mode, Rule, S0, binary, socket_in};

const PATIENCE: Duration = Duration::from_secs(10);
const ECHO: Rule = Rule::masquerade("echo", "*:7", "195.228.245.1:7");

/// Short timeouts make for frequent sweeps. The last rule lets nobody in.
const EXTRA: &str = "\
[timeouts]
icmp = \"1s\"
[limits]
source-ports = \"2000-2999\"
[metrics]
listen = \"127.0.0.1:9469\"
[[forward]]
name = \"closed\"
listen = \"*:9\"
to = \"195.228.245.1:9\"
deny = [\"0.0.0.0/0\"]
";

fn here(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// S0 with one rule for TCP and UDP, and `extra` in the configuration.
fn start(mode: Mode, extra: &str) -> Result<(S0, Result<Forwarder>)> {
    let prefix = Prefix::unique();
    let hosts = S0::build(&prefix, Wire::CABLE)?;
    let directory = prefix.directory();
    let config = GatewayConfig {
        interfaces: vec![S0::DEVICE],
        rules: vec![ECHO],
        ..GatewayConfig::default()
    };
    let text = config.to_toml(mode, &socket_in(&directory));
    let text = text.replace("\"tcp\"", "[\"tcp\", \"udp\"]") + extra;
    let forwarder = Forwarder::start_with(&hosts.gateway, binary()?, directory, &text);
    Ok((hosts, forwarder))
}

fn scrape(gateway: &Namespace, port: u16) -> Result<String> {
    let mut stream = connect_within(gateway, here(port), Duration::from_secs(1))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: gateway\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
    ensure!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    Ok(body.to_owned())
}

/// The value of one line, without its name and labels.
fn value(text: &str, id: &str) -> Option<f64> {
    let lines = text.lines();
    let mut values = lines.filter_map(|line| line.strip_prefix(id)?.strip_prefix(' '));
    values.next()?.parse().ok()
}

#[rstest]
fn traffic_is_counted(#[values(Mode::Xdp, Mode::Tc)] mode: Mode) -> Result<()> {
    let (hosts, forwarder) = start(mode, EXTRA)?;
    let forwarder = forwarder?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let _echo = UdpEcho::start(&hosts.server, "195.228.245.1:7")?;
    let mut stream = connect(&hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut stream, b"over tcp")?;
    udp_exchange(&hosts.client, S0::at_gateway(7), b"over udp")?;
    connect_within(&hosts.client, S0::at_gateway(9), Duration::from_millis(500))
        .expect_err("nobody is let in");

    let flows = |protocol: &str, state: &str| {
        format!("forwarder_rule_flows{{rule=\"echo\",protocol=\"{protocol}\",state=\"{state}\"}}")
    };
    let text = wait_for("a sweep that finds the flows", PATIENCE, || {
        let text = scrape(&hosts.gateway, 9469).ok()?;
        (value(&text, &flows("udp", "STREAM")) == Some(1.0)).then_some(text)
    })?;
    let is = |id: &str, expected: f64| assert_eq!(value(&text, id), Some(expected), "{id}\n{text}");
    is(&flows("tcp", "ESTABLISHED"), 1.0);
    is(&flows("tcp", "TIME_WAIT"), 0.0);
    is("forwarder_rule_flows_opened_total{rule=\"echo\"}", 2.0);
    is("forwarder_table_used{table=\"flows\",family=\"ipv4\"}", 2.0);
    is(
        "forwarder_table_used{table=\"half-open\",family=\"ipv4\"}",
        0.0,
    );
    is(
        "forwarder_table_limit{table=\"flows\",family=\"ipv6\"}",
        262_144.0,
    );
    is("forwarder_table_used{table=\"rules\",family=\"both\"}", 2.0);
    for protocol in ["tcp", "udp"] {
        let pool = format!(
            "{{rule=\"echo\",protocol=\"{protocol}\",source=\"203.0.113.5\",backend=\"195.228.245.1:7\"}}"
        );
        is(&format!("forwarder_port_pool_used{pool}"), 1.0);
        is(&format!("forwarder_port_pool_free{pool}"), 999.0);
    }
    let status = forwarder.query("status")?;
    is(
        "forwarder_generation",
        status["generation"].as_f64().context("no generation")?,
    );
    let refused = forwarder.dropped("client-refused")?;
    assert!(refused > 0);
    is(
        "forwarder_reason_packets_total{reason=\"client-refused\",verdict=\"drop\"}",
        refused as f64,
    );
    assert_eq!(totals(&text), listed(&forwarder)?);
    let (hook, driver) = (
        &status["interfaces"][0]["hook"],
        &status["interfaces"][0]["driver"],
    );
    is(
        &format!(
            "forwarder_interface_info{{interface=\"eth0\",mode={hook},hook={hook},driver={driver}}}"
        ),
        1.0,
    );
    assert!(value(&text, "forwarder_sweep_age_seconds").is_some_and(|age| age < 60.0));
    assert!(
        value(&text, "forwarder_sweep_duration_seconds_count").is_some_and(|count| count >= 1.0)
    );
    check(&text)
}

/// Packets and bytes of the rule by direction, and packets by hook.
fn totals(text: &str) -> [f64; 6] {
    let sum = |metric: &str, label: &str| {
        let lines = text.lines().filter(|line| {
            line.starts_with(&format!("forwarder_rule_{metric}_total{{rule=\"echo\""))
                && line.contains(label)
        });
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    [
        sum("packets", "direction=\"original\""),
        sum("bytes", "direction=\"original\""),
        sum("packets", "direction=\"reply\""),
        sum("bytes", "direction=\"reply\""),
        sum("packets", "hook=\"xdp\""),
        sum("packets", "hook=\"tc\""),
    ]
}

/// The same from `forwarder rules`.
fn listed(forwarder: &Forwarder) -> Result<[f64; 6]> {
    let rules = forwarder.query("rules")?;
    let rule = &rules[0];
    let figures = [
        &rule["original"]["packets"],
        &rule["original"]["bytes"],
        &rule["reply"]["packets"],
        &rule["reply"]["bytes"],
        &rule["xdp_packets"],
        &rule["tc_packets"],
    ];
    let figures = figures.map(|figure| figure.as_f64().unwrap_or(f64::NAN));
    ensure!(figures[1] > 0.0, "nothing was forwarded: {rules}");
    Ok(figures)
}

/// Whether Prometheus' own tool finds nothing to complain of.
fn check(text: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("metrics.txt");
    fs::write(&path, text)?;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(File::open(path)?);
    let said = output(&mut promtool, PATIENCE)?;
    ensure!(said.is_empty(), "promtool says:\n{said}");
    Ok(())
}

#[test]
fn a_port_that_is_taken_keeps_the_daemon_from_starting() -> Result<()> {
    let prefix = Prefix::unique();
    let hosts = S0::build(&prefix, Wire::CABLE)?;
    let _taken = Server::start(&hosts.gateway, "127.0.0.1:9469", echo)?;
    let directory = prefix.directory();
    let config = GatewayConfig {
        interfaces: vec![S0::DEVICE],
        rules: vec![ECHO],
        ..GatewayConfig::default()
    };
    let text = config.to_toml(Mode::Tc, &socket_in(&directory)) + EXTRA;
    let refused = Forwarder::start_with(&hosts.gateway, binary()?, directory, &text)
        .expect_err("the port is taken");
    let sentence = "error: cannot serve metrics on 127.0.0.1:9469: something listens there already; stop it, or change `listen` of `[metrics]`";
    assert!(format!("{refused:#}").contains(sentence), "{refused:#}");
    Ok(())
}

#[test]
fn a_reload_moves_the_metrics_and_a_refused_one_does_not() -> Result<()> {
    let (hosts, forwarder) = start(Mode::Tc, EXTRA)?;
    let forwarder = forwarder?;
    let gateway = &hosts.gateway;
    let text = fs::read_to_string(forwarder.config())?;
    let reload_to = |listen: &str| {
        fs::write(forwarder.config(), text.replace("127.0.0.1:9469", listen))?;
        forwarder.listing("reload")
    };
    scrape(gateway, 9469)?;

    reload_to("127.0.0.1:9470")?;
    scrape(gateway, 9470)?;
    scrape(gateway, 9469).expect_err("the old port is closed");

    let _taken = Server::start(gateway, "127.0.0.1:9471", echo)?;
    let refused = reload_to("127.0.0.1:9471").expect_err("the port is taken");
    assert!(
        format!("{refused:#}").contains("something listens there already"),
        "{refused:#}"
    );
    scrape(gateway, 9470)?;
    let refused = reload_to("192.0.2.1:9470").expect_err("nobody's address, same port");
    assert!(
        format!("{refused:#}").contains("does not have the address"),
        "{refused:#}"
    );
    scrape(gateway, 9470)?;

    // The wildcard takes the place of the address it includes.
    reload_to("0.0.0.0:9470")?;
    scrape(gateway, 9470)?;
    fs::write(
        forwarder.config(),
        text.replace("[metrics]\nlisten = \"127.0.0.1:9469\"\n", ""),
    )?;
    forwarder.listing("reload")?;
    scrape(gateway, 9470).expect_err("metrics are off");
    forwarder.query("status").map(drop)
}

/// Metrics go on where the daemon before has stopped, since counters are in the kernel.
#[test]
fn counters_outlive_the_daemon() -> Result<()> {
    let (hosts, forwarder) = start(Mode::Xdp, EXTRA)?;
    let mut forwarder = forwarder?;
    let _server = Server::start(&hosts.server, "195.228.245.1:7", echo)?;
    let mut stream = connect(&hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut stream, b"before")?;
    let before = totals(&scrape(&hosts.gateway, 9469)?);
    forwarder.kill()?;
    forwarder.restart()?;
    wait_until("the metrics of the new daemon", PATIENCE, || {
        scrape(&hosts.gateway, 9469).is_ok_and(|text| totals(&text) >= before)
    })?;
    tcp_exchange(&mut stream, b"after")?;
    assert!(totals(&scrape(&hosts.gateway, 9469)?) > before);
    Ok(())
}

#[test]
fn the_thread_that_serves_has_given_up_capabilities() -> Result<()> {
    /// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF (include/uapi/linux/capability.h).
    const NEEDED: u64 = 1 << 12 | 1 << 38 | 1 << 39;
    let (hosts, forwarder) = start(Mode::Tc, EXTRA)?;
    let forwarder = forwarder?;
    scrape(&hosts.gateway, 9469)?;
    let pid = forwarder.query("status")?["pid"].clone();
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        names.push(fs::read_to_string(task.join("comm"))?.trim().to_owned());
        let status = fs::read_to_string(task.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let mask = u64::from_str_radix(line.context("no such line")?.trim(), 16)?;
        assert_eq!(mask, NEEDED, "{names:?} {mask:x}");
    }
    assert!(names.iter().any(|name| name == "metrics"), "{names:?}");
    Ok(())
}

/// Whether promtool takes these rules.
fn check_rules(text: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("rules.yml");
    fs::write(&path, text)?;
    let mut promtool = Command::new("promtool");
    output(promtool.args(["check", "rules"]).arg(path), PATIENCE).map(drop)
}

fn document(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[test]
fn the_documented_alerts_are_rules() -> Result<()> {
    let text = document("metrics.md")?;
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let rules: Vec<&str> = blocks
        .filter(|block| block.starts_with("groups:"))
        .collect();
    assert_eq!(rules.len(), 1);
    check_rules(rules[0])
}

/// Grafana puts its variables in before it asks.
#[test]
fn the_dashboards_expressions_are_promql() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&document("grafana-dashboard.json")?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    let mut count = 0;
    for target in targets {
        let expression = target["expr"].as_str().context("no expression")?;
        let expression = expression.replace("$__rate_interval", "5m");
        // A JSON string is a YAML string as well.
        let expression = serde_json::to_string(&expression)?;
        rules += &format!("  - record: expression{count}\n    expr: {expression}\n");
        count += 1;
    }
    assert!(count > 20, "{count}");
    check_rules(&rules)
}
