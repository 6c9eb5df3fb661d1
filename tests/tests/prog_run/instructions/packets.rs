//! The packets that are weighed, in the order in which they come.

use anyhow::Result;
use forwarder_common::reason::Reason;
use tests::packet::tcp_flags::{ACK, FIN, PSH, SYN};
use tests::packet::{IcmpError, Packet};

use super::super::bench::Hook;
use super::super::family::Family;
use super::super::topology::Device;
use super::super::traffic::{CLIENT, Connection, LISTENER, SERVER, syn, tcp, udp};
use super::super::vlan;
use super::scale::{End, Scale};

/// One rule that preserves the source, one that masquerades, and one that refuses clients.
const RULES: &str = r#"
[[forward]]
name = "preserve"
listen = "203.0.113.5:110"
to = "10.0.0.2"
protocol = ["tcp", "udp"]
[[forward]]
name = "masquerade"
listen = "203.0.113.5:995"
to = "10.0.0.3"
protocol = ["tcp", "udp"]
source = "masquerade"
[[forward]]
name = "refuse"
listen = "203.0.113.5:25"
to = "10.0.0.4"
deny = ["198.51.100.0/24"]
"#;

/// Clients of the LAN may reach these servers.
pub const OUTBOUND: &str = "[[masquerade]]\nname = \"lan\"\nfrom = [\"10.0.0.0/24\"]\ninterface = \"lan\"\n\
                        ports = [\"udp/53\", \"tcp/25\"]\n";

/// To a socket of this host.
const LOCAL: &str = "[[forward]]\nname = \"local\"\nlisten = \"203.0.113.5:110\"\nto = \"local:2110\"\n\
                     protocol = [\"tcp\", \"udp\"]\n";
/// The socket.
const SOCKET: &str = "203.0.113.1:2110";

/// Segments with a payload.
const DATA: u8 = ACK | PSH;

/// Packets that come in, of connections to a backend and of nobody.
pub fn forwarded(hook: Hook, family: Family) -> Result<Scale> {
    let mut scale = Scale::new(hook, family, RULES);
    let connection = Connection::default();
    datagrams(&mut scale, &connection)?;
    segments(&mut scale, &connection)?;
    new_flows(&mut scale)?;
    rare(&mut scale, &connection)?;
    foreign(&mut scale)?;
    if hook == Hook::Xdp {
        tagged(&mut scale)?;
    }
    Ok(scale)
}

/// The first packets of clients that go out.
pub fn outbound(hook: Hook, family: Family) -> Result<Scale> {
    let mut scale = Scale::new(hook, family, OUTBOUND);
    let to = |server| Connection::outbound("10.0.0.2:25000", server, "203.0.113.1:25000");
    let (dns, mail) = (to("195.228.245.1:53"), to("195.228.245.1:25"));
    let forwarded = End::Forwarded;
    scale.weigh("udp_first", Device::Lan, &dns.request(udp()), forwarded)?;
    scale.weigh("udp_reply_first", Device::Wan, &dns.reply(udp()), forwarded)?;
    scale.weigh("tcp_syn", Device::Lan, &mail.request(syn()), forwarded)?;
    let elsewhere = to("195.228.245.1:80").request(syn());
    let refused = End::Refused(Reason::NotPermitted);
    scale.weigh("not_permitted", Device::Lan, &elsewhere, refused)?;
    Ok(scale)
}

/// Replies of this host's own sockets.
pub fn local(family: Family) -> Result<Scale> {
    let mut scale = Scale::new(Hook::Xdp, family, LOCAL);
    let connection = Connection::new(CLIENT, LISTENER, CLIENT, SOCKET);
    for packet in [udp(), syn()] {
        let frame = family.packet(&connection.request(packet)).to_bytes();
        scale.bench.run(Device::Wan, &frame);
    }
    scale.turn(Hook::Egress);
    let reply = |packet: Packet| {
        let packet = packet.with_source(SOCKET).with_destination(CLIENT);
        packet.with_macs(Device::Wan.mac(), Device::Wan.neighbour(254))
    };
    scale.weigh(
        "udp_reply_first",
        Device::Wan,
        &reply(udp()),
        End::Forwarded,
    )?;
    scale.weigh_known("udp_reply", Device::Wan, &reply(udp()))?;
    scale.weigh(
        "tcp_syn_ack",
        Device::Wan,
        &reply(tcp(SYN | ACK)),
        End::Forwarded,
    )?;
    let foreign = udp()
        .with_source("203.0.113.1:123")
        .with_destination(CLIENT);
    let foreign = foreign.with_macs(Device::Wan.mac(), Device::Wan.neighbour(254));
    scale.weigh(
        "foreign",
        Device::Wan,
        &foreign,
        End::Refused(Reason::NoRule),
    )?;
    Ok(scale)
}

fn datagrams(scale: &mut Scale, connection: &Connection) -> Result<()> {
    let (request, reply) = (connection.request(udp()), connection.reply(udp()));
    scale.weigh("udp_first", Device::Wan, &request, End::Forwarded)?;
    scale.weigh("udp_reply_first", Device::Lan, &reply, End::Forwarded)?;
    scale.weigh_known("udp", Device::Wan, &request)?;
    scale.weigh_known("udp_reply", Device::Lan, &reply)
}

fn segments(scale: &mut Scale, connection: &Connection) -> Result<()> {
    let request = |packet| connection.request(packet);
    let reply = |packet| connection.reply(packet);
    scale.weigh("tcp_syn", Device::Wan, &request(syn()), End::Forwarded)?;
    let answer = reply(tcp(SYN | ACK));
    scale.weigh("tcp_syn_ack", Device::Lan, &answer, End::Forwarded)?;
    let third = request(tcp(ACK));
    scale.weigh("tcp_handshake_ack", Device::Wan, &third, End::Forwarded)?;
    scale.weigh_known("tcp", Device::Wan, &request(tcp(DATA)))?;
    scale.weigh_known("tcp_reply", Device::Lan, &reply(tcp(DATA)))?;
    let last = request(tcp(FIN | ACK));
    scale.weigh("tcp_fin", Device::Wan, &last, End::Forwarded)?;
    Ok(())
}

fn new_flows(scale: &mut Scale) -> Result<()> {
    let listener = "203.0.113.5:995";
    let masquerading = Connection::new(CLIENT, listener, "10.0.0.1:25000", "10.0.0.3:995");
    for (name, packet) in [
        ("udp_first_masquerade", udp()),
        ("tcp_syn_masquerade", syn()),
    ] {
        let packet = masquerading.request(packet);
        scale.weigh(name, Device::Wan, &packet, End::Forwarded)?;
    }
    let refused = Connection::new(CLIENT, "203.0.113.5:25", CLIENT, "10.0.0.4:25");
    let end = End::Refused(Reason::ClientRefused);
    scale.weigh("client_refused", Device::Wan, &refused.request(syn()), end)?;
    let lost = Connection::new("198.51.100.7:26000", LISTENER, CLIENT, SERVER);
    let end = End::Refused(Reason::TcpNoFlow);
    scale.weigh("tcp_no_flow", Device::Wan, &lost.request(tcp(ACK)), end)?;
    Ok(())
}

/// Of the flow of UDP, but none that most of its packets are like.
fn rare(scale: &mut Scale, connection: &Connection) -> Result<()> {
    let family = scale.bench.family;
    let long = udp().with_payload(&[7; 100]);
    let whole = family.packet(&connection.request(long));
    // A datagram that no other test, whose datapath this may have been, has used.
    let fragments = whole.fragments(0x3f00, 64);
    for (name, fragment) in ["fragment_first", "fragment_later"]
        .into_iter()
        .zip(&fragments)
    {
        scale.weigh(name, Device::Wan, fragment, End::Forwarded)?;
    }
    let quoted = family.packet(&connection.forwarded(udp()));
    let router = family.text("10.0.0.254");
    let error = Packet::error_about(&router, IcmpError::PortUnreachable, &quoted);
    let error = error.with_macs(Device::Lan.neighbour(2), Device::Lan.mac());
    scale.weigh("icmp_error", Device::Lan, &error, End::Forwarded)?;
    let last_hop = connection.request(udp()).with_ttl(1);
    let end = End::Refused(Reason::TtlExpired);
    scale.weigh("ttl_expired", Device::Wan, &last_hop, end)?;
    Ok(())
}

/// What is none of ours.
fn foreign(scale: &mut Scale) -> Result<()> {
    let to = |listener| Connection::new(CLIENT, listener, CLIENT, SERVER);
    let end = End::Refused(Reason::NoRule);
    let filtered = to("203.0.113.77:53").request(udp());
    scale.weigh("foreign_by_filter", Device::Wan, &filtered, end)?;
    let no_rule = to("203.0.113.5:53").request(udp());
    scale.weigh("foreign_by_rules", Device::Wan, &no_rule, end)?;
    let no_rule = to("203.0.113.5:53").request(tcp(DATA));
    scale.weigh("foreign_by_rules_tcp", Device::Wan, &no_rule, end)?;
    Ok(())
}

/// `alt` is VLAN 7 on `wan`.
fn tagged(scale: &mut Scale) -> Result<()> {
    let connection = Connection {
        near: (Device::Alt, 254),
        ..Connection::new("198.51.100.7:27000", LISTENER, "198.51.100.7:27000", SERVER)
    };
    let tags = [(Device::Alt, 0x8100, 7)];
    vlan::describe(&mut scale.bench, &tags);
    let mut request = connection.request(udp());
    request = request.with_vlan(7);
    scale.weigh("tagged_first", Device::Wan, &request, End::Forwarded)?;
    scale.weigh("tagged", Device::Wan, &request, End::Forwarded)?;
    let reply = connection.reply(udp());
    scale.weigh("tagged_reply", Device::Lan, &reply, End::Forwarded)?;
    let end = End::Refused(Reason::ForeignVlan);
    let foreign = connection.request(udp()).with_vlan(8);
    scale.weigh("tagged_foreign", Device::Wan, &foreign, end)?;
    Ok(())
}
