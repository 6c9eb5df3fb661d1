//! IPv6: extension headers, and addresses that no router forwards.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, SYN};
use tests::packet::{Extension, Packet};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, syn, tcp, udp};
use super::translate::RULE;

const V6: Family = Family::V6;

fn with(packet: &Packet, extensions: &[Extension]) -> Packet {
    let packet = V6.packet(packet);
    extensions
        .iter()
        .cloned()
        .fold(packet, Packet::with_extension)
}

/// Options of so many bytes in all.
fn options(bytes: usize) -> Extension {
    let mut data = vec![1, (bytes - 4) as u8];
    data.resize(bytes - 2, 0);
    Extension::Destination(data)
}

#[rstest]
#[case::none(&[])]
#[case::hop_by_hop(&[Extension::hop_by_hop()])]
#[case::destination(&[Extension::destination()])]
#[case::at_the_end_of_its_route(&[Extension::route(0, "2001:db8::99")])]
#[case::whole_in_one_fragment(&[Extension::Fragment { offset: 0, more: false, id: 7 }])]
#[case::three(&[Extension::hop_by_hop(), Extension::route(0, "2001:db8::99"), Extension::destination()])]
#[case::six(&[Extension::hop_by_hop(), Extension::destination(), Extension::route(0, "2001:db8::99"),
    Extension::Fragment { offset: 0, more: false, id: 7 }, Extension::destination(), Extension::destination()])]
#[case::long(&[options(256), options(248)])]
fn they_are_walked_over(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[case] extensions: &[Extension],
) {
    let mut bench = Bench::new((hook, V6), RULE);
    let connection = Connection::default();
    for (there, back) in [(syn(), tcp(SYN | ACK)), (udp(), udp())] {
        let sent = with(&connection.request(there.clone()), extensions);
        let expected = with(&connection.forwarded(there), extensions);
        bench.forwards(Device::Wan, &sent, Device::Lan, &expected);
        let sent = with(&connection.reply(back.clone()), extensions);
        let expected = with(&connection.returned(back), extensions);
        bench.forwards(Device::Lan, &sent, Device::Wan, &expected);
    }
    bench.holds(&[
        &connection.described("SYN_RECV"),
        &connection.described("STREAM"),
    ]);
}

#[rstest]
#[case::seven(&std::array::from_fn::<_, 7, _>(|_| Extension::destination()), Reason::ExtensionHeaders)]
#[case::too_long(&[options(256), options(256), options(16)], Reason::ExtensionHeaders)]
#[case::on_its_route(&[Extension::route(1, "2001:db8::99")], Reason::ExtensionHeaders)]
fn too_many_and_routes_are_left_alone(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[case] extensions: &[Extension],
    #[case] reason: Reason,
) {
    let mut bench = Bench::new((hook, V6), RULE);
    let connection = Connection::default();
    connection.send(&mut bench, &udp());
    let sent = with(&connection.request(udp()), extensions);
    bench.refuses(Device::Wan, &sent, reason);
}

/// A header that ends behind the packet, or claims to.
#[rstest]
fn cut_short(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = Bench::new((hook, V6), RULE);
    let connection = Connection::default();
    connection.send(&mut bench, &udp());
    let whole = with(&connection.request(udp().with_payload(&[])), &[options(16)]).to_bytes();
    for length in 54..whole.len() {
        let cut = &whole[..length];
        bench.refuses_frame(Device::Wan, cut, Reason::Malformed);
        let mut honest = cut.to_vec();
        honest[18..20].copy_from_slice(&((length - 54) as u16).to_be_bytes());
        bench.refuses_frame(Device::Wan, &honest, Reason::Malformed);
    }
    let mut longer = whole;
    // The length of the options, in units of eight bytes beyond the first.
    longer[55] = 200;
    bench.refuses_frame(Device::Wan, &longer, Reason::Malformed);
}

#[rstest]
#[case::link_local_source("fe80::1", "2001:db8::cb00:7105")]
#[case::link_local("2001:db8::1", "fe80::5")]
#[case::multicast("2001:db8::1", "ff02::5")]
#[case::global_multicast("2001:db8::1", "ff0e::5")]
#[case::loopback("::1", "2001:db8::cb00:7105")]
#[case::unspecified("::", "2001:db8::cb00:7105")]
fn what_no_router_forwards(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[case] source: &str,
    #[case] destination: &str,
) {
    let mut bench = Bench::new((hook, V6), &RULE.replace("203.0.113.5", "*"));
    let packet = Packet::udp(
        &format!("[{source}]:25000"),
        &format!("[{destination}]:110"),
    );
    let packet = packet.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
    bench.refuses(Device::Wan, &packet, Reason::NotUnicast);
    // Neighbour discovery above all.
    let icmp = Packet::icmp(source, destination, 135, 0, [0; 4]).with_payload(&[0; 16]);
    let icmp = icmp.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
    bench.refuses(Device::Wan, &icmp, Reason::NotUnicast);
}

/// Neither TCP nor UDP nor anything to walk over.
#[rstest]
#[case::no_next_header(59)]
#[case::authentication(51)]
#[case::encrypted(50)]
fn other_protocols(#[values(Hook::Xdp, Hook::Tc)] hook: Hook, #[case] protocol: u8) {
    let mut bench = Bench::new((hook, V6), RULE);
    let packet = Packet::other("2001:db8::c633:6407", "2001:db8::cb00:7105", protocol);
    let packet = packet.with_payload(&[0; 40]);
    let packet = packet.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
    for extensions in [&[][..], &[Extension::destination()][..]] {
        let packet = with(&packet, extensions);
        bench.refuses(Device::Wan, &packet, Reason::NotTransport);
    }
}
