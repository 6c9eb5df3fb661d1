//! Rule files as hosts have them, each beside the configuration that comes of it. After a change that is meant,
//! `BLESS=1 cargo test -p forwarder fixtures` writes them anew.

use std::fs;
use std::path::PathBuf;

use rstest::rstest;

use crate::migrate::{Hints, import_iptables, import_nft};

fn path(name: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/src/migrate/tests/fixtures");
    PathBuf::from(fixtures).join(name)
}

/// Compares with the file of that name.
fn assert_is(name: &str, text: &str) {
    let path = path(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == expected,
        "{name} is not what comes of it now:\n{text}"
    );
}

#[rstest]
#[case::masquerade("s0-pop3-masquerade")]
#[case::fixed_source("s1-proxy-snat")]
#[case::devices("s3-bond-hairpin")]
#[case::docker("docker")]
#[case::a_router_with_a_firewall("lan-router")]
#[case::clients("clients")]
#[case::ranges("ranges")]
#[case::order("order")]
#[case::redirect_and_output("redirect")]
#[case::chains("chains")]
#[case::v6("v6")]
#[case::both_families("both-families")]
#[case::openwrt("openwrt")]
#[case::libvirt("libvirt")]
#[case::clients_behind("gateway")]
#[case::everybody_out("everybody-out")]
#[case::unsupported("unsupported")]
#[case::commands("script")]
fn iptables(#[case] name: &str) {
    let rules = fs::read_to_string(path(&format!("{name}.rules"))).unwrap();
    let imported = import_iptables(&rules, &Hints::default()).unwrap();
    for (number, line) in (1..).zip(rules.lines()) {
        if line.contains("-A ") || line.contains("-I ") {
            let place = format!("line {number}: ");
            assert!(
                imported.text.contains(&place),
                "{line} is left out in silence"
            );
        }
    }
    assert_is(&format!("{name}.toml"), &imported.text);
}

#[rstest]
#[case::maps_and_sets("nft-maps")]
fn nft(#[case] name: &str) {
    let rules = fs::read_to_string(path(&format!("{name}.json"))).unwrap();
    let imported = import_nft(&rules, &Hints::default()).unwrap();
    let root: serde_json::Value = serde_json::from_str(&rules).unwrap();
    for rule in root["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one.get("rule"))
    {
        let text = |key: &str| rule[key].as_str().unwrap();
        let place = format!(
            "{} {} {}, handle {}: ",
            text("family"),
            text("table"),
            text("chain"),
            rule["handle"]
        );
        assert!(
            imported.text.contains(&place),
            "{place} is left out in silence"
        );
    }
    assert_is(&format!("{name}.toml"), &imported.text);
}

#[test]
fn what_is_known_of_the_host_makes_it_exact() {
    let rules = fs::read_to_string(path("docker.rules")).unwrap();
    let hints = Hints {
        interfaces: vec!["ens3".to_owned()],
        addresses: vec!["203.0.113.5".parse().unwrap()],
        routes: Vec::new(),
    };
    let imported = import_iptables(&rules, &hints).unwrap();
    let listeners: Vec<String> = imported
        .config
        .rules
        .iter()
        .map(|rule| {
            format!(
                "{} on {}",
                rule.listen,
                rule.interface.as_deref().unwrap_or("any")
            )
        })
        .collect();
    assert_eq!(
        listeners,
        ["203.0.113.5:53 on ens3", "203.0.113.5:8080 on ens3",]
    );
    assert!(!imported.text.contains("--address"), "{}", imported.text);
}
