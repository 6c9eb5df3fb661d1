//! The metrics' text, and whether documentation and dashboard name what is really there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use forwarder::{
    datapath::Fill,
    events::Totals,
    metrics::{
        FlowCount, METRICS, Metric, PoolCount, RuleTotals, Snapshot, SweepTotals, Swept, render,
    },
    report::{Hook, InterfaceStatus},
};
use forwarder_common::{reason::Reason, stats::Traffic};

/// One with something of everything.
fn full() -> Snapshot {
    let traffic = |packets| Traffic {
        packets,
        bytes: packets * 100,
    };
    Snapshot {
        version: "0.1.0".to_owned(),
        abi: 3,
        started: 1_700_000_000.5,
        generation: 7,
        interfaces: vec![InterfaceStatus {
            name: "eth0".to_owned(),
            wanted: "auto".to_owned(),
            hook: Hook::Xdp,
            driver: Some("virtio_net".to_owned()),
            ..InterfaceStatus::default()
        }],
        rules: vec![RuleTotals {
            name: "a \"quoted\" \\ rule".to_owned(),
            by_hook: [[traffic(1), traffic(2)], [traffic(3), traffic(4)]],
            opened: 5,
        }],
        reasons: Reason::ALL.iter().map(|reason| (*reason, 9)).collect(),
        tables: vec![Fill {
            table: "rules",
            family: None,
            used: 1,
            limit: 65_536,
        }],
        sweeps: SweepTotals {
            durations: vec![(0.001, 3), (1.0, 1), (f64::INFINITY, 1)],
            seconds: 2.5,
            removed: 11,
        },
        swept: Some(Swept {
            age: 0.25,
            flows: vec![FlowCount {
                rule: "pop3".to_owned(),
                protocol: "tcp",
                state: "ESTABLISHED",
                count: 12,
            }],
            tables: vec![Fill {
                table: "flows",
                family: Some("ipv6"),
                used: 12,
                limit: 262_144,
            }],
            pools: vec![PoolCount {
                rule: "pop3".to_owned(),
                protocol: "tcp",
                source: "203.0.113.5".to_owned(),
                backend: "195.228.245.1:110".to_owned(),
                used: 12,
                free: 36_268,
            }],
            pools_left_out: 1,
        }),
        events: Totals {
            told: [21, 22, 23],
            lost: [31, 32, 33, 34],
            written: [0, 0, 43, 44],
        },
    }
}

/// The values of one metric, as they are written, with the types that were declared.
#[derive(Debug, Default)]
struct Written {
    types: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
    /// Name, labels and value of each line.
    samples: Vec<(String, Vec<String>, String)>,
}

fn read(text: &str) -> Written {
    let mut written = Written::default();
    for line in text.lines() {
        let word = |line: &str| {
            let (name, rest) = line.split_once(' ').expect("a name and more");
            (name.to_owned(), rest.to_owned())
        };
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            written.types.extend([word(rest)]);
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            written.helps.extend([word(rest)]);
        } else {
            let (id, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = id.split_once('{').unwrap_or((id, ""));
            let labels = labels.trim_end_matches('}').split("\",");
            let keys =
                labels.filter_map(|label| label.split_once('=').map(|(key, _)| key.to_owned()));
            written
                .samples
                .push((name.to_owned(), keys.collect(), value.to_owned()));
        }
    }
    written
}

#[test]
fn every_metric_is_exported_as_it_is_described() {
    let written = read(&render(full()));
    let names: BTreeSet<String> = METRICS.iter().map(Metric::name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name twice");
    assert_eq!(
        written.types.keys().cloned().collect::<BTreeSet<_>>(),
        names
    );
    for metric in METRICS {
        let name = metric.name();
        assert_eq!(written.types[&name], metric.kind(), "{name}");
        assert_eq!(written.helps[&name], metric.help);
        let buckets = format!("{name}_bucket");
        let mut samples = written.samples.iter();
        let (_, keys, _) = samples
            .find(|(sample, ..)| *sample == name || *sample == buckets)
            .unwrap_or_else(|| panic!("{name} has no value"));
        let keys: Vec<&str> = keys
            .iter()
            .map(String::as_str)
            .filter(|key| *key != "le")
            .collect();
        assert_eq!(keys, metric.labels, "{name}");
    }
}

#[test]
fn values_and_labels_are_the_snapshots() {
    let text = render(full());
    for line in [
        r#"forwarder_build_info{version="0.1.0",abi="3"} 1"#,
        "process_start_time_seconds 1700000000.5",
        r#"forwarder_interface_info{interface="eth0",mode="auto",hook="xdp",driver="virtio_net"} 1"#,
        r#"forwarder_rule_packets_total{rule="a \"quoted\" \\ rule",direction="original",hook="xdp"} 1"#,
        r#"forwarder_rule_packets_total{rule="a \"quoted\" \\ rule",direction="reply",hook="xdp"} 2"#,
        r#"forwarder_rule_bytes_total{rule="a \"quoted\" \\ rule",direction="original",hook="tc"} 300"#,
        r#"forwarder_rule_bytes_total{rule="a \"quoted\" \\ rule",direction="reply",hook="tc"} 400"#,
        r#"forwarder_rule_flows_opened_total{rule="a \"quoted\" \\ rule"} 5"#,
        r#"forwarder_rule_flows{rule="pop3",protocol="tcp",state="ESTABLISHED"} 12"#,
        r#"forwarder_reason_packets_total{reason="no-rule",verdict="pass"} 9"#,
        r#"forwarder_reason_packets_total{reason="ports-exhausted",verdict="drop"} 9"#,
        r#"forwarder_table_used{table="flows",family="ipv6"} 12"#,
        r#"forwarder_table_limit{table="rules",family="both"} 65536"#,
        r#"forwarder_port_pool_free{rule="pop3",protocol="tcp",source="203.0.113.5",backend="195.228.245.1:110"} 36268"#,
        r#"forwarder_events_total{event="closed"} 23"#,
        r#"forwarder_events_lost_total{place="ring"} 31"#,
        r#"forwarder_events_lost_total{place="listener"} 32"#,
        r#"forwarder_events_written_total{place="flow-log"} 43"#,
        r#"forwarder_events_written_total{place="history"} 44"#,
        "forwarder_port_pools_left_out 1",
        r#"forwarder_sweep_duration_seconds_bucket{le="0.001"} 3"#,
        r#"forwarder_sweep_duration_seconds_bucket{le="1"} 4"#,
        r#"forwarder_sweep_duration_seconds_bucket{le="+Inf"} 5"#,
        "forwarder_sweep_duration_seconds_count 5",
        "forwarder_sweep_duration_seconds_sum 2.5",
        "forwarder_sweep_removed_flows_total 11",
        "forwarder_sweep_age_seconds 0.25",
    ] {
        assert!(
            text.lines().any(|written| written == line),
            "no {line} in\n{text}"
        );
    }
    let reasons = text.matches("\nforwarder_reason_packets_total{").count();
    assert_eq!(reasons, Reason::ALL.len());
}

#[test]
fn before_the_first_sweep_nothing_is_said_of_flows() {
    let snapshot = Snapshot {
        swept: None,
        ..full()
    };
    let text = render(snapshot);
    for name in [
        "forwarder_rule_flows{",
        "table=\"flows\"",
        "port_pool",
        "sweep_age",
    ] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
}

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `docs/metrics.md` has a row for each: name, type, labels, meaning.
#[test]
fn the_documentation_names_every_metric() {
    let text = document("metrics.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].strip_prefix('`')?.strip_suffix('`')?;
        let is_metric = name.starts_with("forwarder_") || name.starts_with("process_");
        is_metric.then(|| {
            let labels = cells[2]
                .split(", ")
                .filter_map(|label| Some(label.strip_prefix('`')?.strip_suffix('`')?.to_owned()));
            (
                name.to_owned(),
                (cells[1].to_owned(), labels.collect::<Vec<_>>()),
            )
        })
    });
    let documented: BTreeMap<_, _> = rows.collect();
    let exported: BTreeMap<_, _> = METRICS
        .iter()
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned());
            (metric.name(), (metric.kind().to_owned(), labels.collect()))
        })
        .collect();
    assert_eq!(documented, exported);
}

/// Every expression of the dashboard, wherever it stands.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        serde_json::Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if matches!(key.as_str(), "expr" | "query" | "definition") => {
                        found.push(text.to_owned());
                    }
                    _ => expressions(field, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_is_exported() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&document("grafana-dashboard.json")).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 10, "{found:?}");
    let written = read(&render(full()));
    let samples: BTreeSet<&str> = written
        .samples
        .iter()
        .map(|(name, ..)| name.as_str())
        .collect();
    let labels: BTreeSet<&str> = METRICS
        .iter()
        .flat_map(|metric| metric.labels)
        .copied()
        .collect();
    let mut asked = BTreeSet::new();
    for expression in &found {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in
            words.filter(|word| word.starts_with("forwarder_") || word.starts_with("process_"))
        {
            assert!(
                samples.contains(word),
                "{word} of {expression} is not exported"
            );
            asked.insert(word);
        }
        // What stands before an operator in braces, or in `by (…)`, is a label.
        for inside in expression
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
        {
            for label in inside
                .split(',')
                .filter_map(|one| one.split(['=', '!']).next())
            {
                let known = labels.contains(label) || matches!(label, "job" | "instance");
                assert!(known, "no label {label:?}: {expression}");
            }
        }
        for inside in expression
            .split("by (")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            for label in inside.split(", ") {
                let known = labels.contains(label) || matches!(label, "le" | "instance");
                assert!(known, "no label {label:?}: {expression}");
            }
        }
    }
    // A dashboard that shows hardly anything does not fit either.
    assert!(asked.len() >= METRICS.len() - 3, "{asked:?}");
}
