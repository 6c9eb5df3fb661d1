//! One or two rules each, and what comes of them.

use rstest::rstest;

use super::{bare, import};

#[rstest]
#[case::no_port("-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1",
    &[r#"[[forward]]; protocol = "tcp"; listen = "*:25"; to = "10.0.0.1""#])]
#[case::address_and_device("-A PREROUTING -d 203.0.113.5 -i eth0 -p udp --dport 53 -j DNAT --to-destination 10.0.0.1:5353",
    &[r#"[[forward]]; protocol = "udp"; interface = "eth0"; listen = "203.0.113.5:53"; to = "10.0.0.1:5353""#])]
#[case::both_protocols("-A PREROUTING -p tcp --dport 53 -j DNAT --to-destination 10.0.0.1
-A PREROUTING -p udp --dport 53 -j DNAT --to-destination 10.0.0.1",
    &[r#"[[forward]]; protocol = ["tcp", "udp"]; listen = "*:53"; to = "10.0.0.1""#])]
#[case::neighbours("-A PREROUTING -p tcp -m multiport --dports 25,26 -j DNAT --to-destination 10.0.0.1",
    &[r#"[[forward]]; protocol = "tcp"; listen = "*:25-26"; to = "10.0.0.1""#])]
#[case::several_backends("-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1-10.0.0.3:2525",
    &[r#"[[forward]]; protocol = "tcp"; listen = "*:25"; to = ["10.0.0.1:2525", "10.0.0.2:2525", "10.0.0.3:2525"]"#])]
#[case::shares("-A PREROUTING -p tcp --dport 25 -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.0.0.1
-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.9",
    &[r#"[[forward]]; protocol = "tcp"; listen = "*:25"; to = ["10.0.0.1", "10.0.0.9"]"#])]
#[case::fixed_source("-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A POSTROUTING -d 10.0.0.1 -p tcp --dport 25 -j SNAT --to-source 10.0.0.254",
    &[r#"[[forward]]; protocol = "tcp"; listen = "*:25"; to = "10.0.0.1"; source = "10.0.0.254""#])]
#[case::source_by_the_new_port("-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1:2525
-A POSTROUTING -d 10.0.0.1 -p tcp --dport 25 -j SNAT --to-source 10.0.0.254
-A POSTROUTING -d 10.0.0.1 -p tcp --dport 2525 -j SNAT --to-source 10.0.0.1-10.0.0.9",
    &[r#"[[forward]]; protocol = "tcp"; listen = "*:25"; to = "10.0.0.1:2525"; source = "10.0.0.1-10.0.0.9""#])]
#[case::source_for_what_was_forwarded("-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A POSTROUTING -m conntrack --ctstate DNAT -j MASQUERADE",
    &[r#"[[forward]]; protocol = "tcp"; listen = "*:25"; to = "10.0.0.1"; source = "masquerade""#])]
#[case::the_way_out_is_not_the_way_in("-A PREROUTING -i eth0 -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A POSTROUTING -o eth0 -j MASQUERADE",
    &[r#"[[forward]]; protocol = "tcp"; interface = "eth0"; listen = "*:25"; to = "10.0.0.1""#])]
#[case::the_way_out_leads_outside("-A PREROUTING -i eth0 -p tcp --dport 25 -j DNAT --to-destination 195.228.245.1
-A POSTROUTING -o eth0 -j MASQUERADE",
    &[r#"[[forward]]; protocol = "tcp"; interface = "eth0"; listen = "*:25"; to = "195.228.245.1"; source = "masquerade""#])]
#[case::the_way_inside("-A PREROUTING -i eth0 -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A POSTROUTING -o eth1 -j MASQUERADE",
    &[r#"[[forward]]; protocol = "tcp"; interface = "eth0"; listen = "*:25"; to = "10.0.0.1"; source = "masquerade""#,
      r#"[[masquerade]]; from = ["0.0.0.0/0"]; interface = "eth0"; source = "masquerade""#])]
#[case::hairpin("-A PREROUTING -d 203.0.113.5 -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A POSTROUTING -s 10.0.0.0/24 -d 10.0.0.1 -p tcp --dport 25 -j MASQUERADE",
    &[r#"[[forward]]; protocol = "tcp"; listen = "203.0.113.5:25"; to = "10.0.0.1""#])]
#[case::clients_of_one_prefix("-A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE",
    &[r#"[[masquerade]]; from = ["10.0.0.0/24"]; source = "masquerade""#])]
#[case::clients_behind_a_device("-A POSTROUTING -s 10.0.0.0/24 ! -o br0 -j SNAT --to-source 203.0.113.5",
    &[r#"[[masquerade]]; from = ["10.0.0.0/24"]; interface = "br0"; source = "203.0.113.5""#])]
#[case::two_prefixes("-A POSTROUTING -s 10.0.0.0/24,10.1.0.0/24 -o eth0 -j MASQUERADE",
    &[r#"[[masquerade]]; from = ["10.0.0.0/24", "10.1.0.0/24"]; source = "masquerade""#])]
#[case::exceptions_of_devices("-A PREROUTING ! -i eth1 -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A POSTROUTING -o eth0 -d 192.0.2.1 -j ACCEPT",
    &[r#"[[forward]]; protocol = "tcp"; interface = "eth0"; listen = "*:25"; to = "10.0.0.1""#])]
#[case::output("-A OUTPUT -d 192.0.2.7 -p tcp --dport 25 -j DNAT --to-destination :986",
    &[r#"[[output]]; protocol = "tcp"; to-address = "192.0.2.7:25"; to = "192.0.2.7:986""#])]
#[case::to_itself("-A PREROUTING -d 203.0.113.5 -p tcp --dport 986 -j DNAT --to-destination :25",
    &[r#"[[forward]]; protocol = "tcp"; listen = "203.0.113.5:986"; to = "local:25""#])]
fn comes_to(#[case] rules: &str, #[case] expected: &[&str]) {
    let imported = import(rules).unwrap();
    assert_eq!(bare(&imported.text), expected, "{}", imported.text);
}

/// What is not translated, in two parts each: what stands first in the list of findings, and how many rules there are.
#[rstest]
#[case::two_targets(
    "-A PREROUTING -s 192.0.2.0/24 -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.2",
    "where it sends depends on the client"
)]
#[case::two_sources(
    "-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1-10.0.0.2
-A POSTROUTING -d 10.0.0.1 -j MASQUERADE",
    "as whom it sends depends on the backend"
)]
#[case::clients_with_two_sources(
    "-A PREROUTING -p tcp --dport 25 -j DNAT --to-destination 10.0.0.1
-A POSTROUTING -s 192.0.2.0/24 -d 10.0.0.1 -j MASQUERADE",
    "it takes some clients only"
)]
#[case::redirect_to_the_same_port("-A PREROUTING -p tcp --dport 25 -j REDIRECT", "the same port")]
#[case::circle("-N a\n-A PREROUTING -j a\n-A a -j a", "no equivalent")]
#[case::other_family(
    "-A PREROUTING -d 192.0.2.1 -p tcp --dport 25 -j DNAT --to-destination [2001:db8::1]:25",
    "not of IPv4"
)]
fn cannot_be_said(#[case] rules: &str, #[case] reason: &str) {
    let error = import(rules).unwrap_err();
    let super::ImportError::Untranslatable { findings } = error else {
        panic!("{error}");
    };
    assert!(findings.contains(reason), "{findings}");
}
