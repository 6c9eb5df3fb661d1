//! What the gateway itself sends.

use tests::packet::{IcmpError, Ip, Packet, Transport, tcp_flags};

use super::bench::Bench;
use super::topology::Device;

/// What is sent back by the device that `packet` came in by.
impl Bench {
    /// The ICMP error about `packet` that goes back out of `device`.
    pub fn error(&self, device: Device, error: IcmpError, packet: &Packet) -> Packet {
        let mut about = self.family.packet(packet);
        about.trailer.clear();
        let own = self.family.address(device.addresses()[0].into());
        let mut answer = Packet::error_about(&own.to_string(), error, &about);
        // Whole words are quoted.
        answer.payload.truncate(answer.payload.len() & !3);
        returned(answer, &about)
    }

    /// The RST for `packet` (RFC 9293 section 3.10.7.1).
    pub fn reset(&self, packet: &Packet) -> Packet {
        let about = self.family.packet(packet);
        let Transport::Tcp(tcp) = &about.transport else {
            panic!("{:?} is not TCP", about.transport);
        };
        let mut answer = Packet {
            payload: Vec::new(),
            ..about.clone()
        };
        let length = about.payload.len() as u32
            + u32::from(tcp.flags & tcp_flags::SYN != 0)
            + u32::from(tcp.flags & tcp_flags::FIN != 0);
        let reset = answer.tcp_mut();
        (reset.source_port, reset.destination_port) = (tcp.destination_port, tcp.source_port);
        if tcp.flags & tcp_flags::ACK != 0 {
            (reset.sequence, reset.acknowledgment) = (tcp.acknowledgment, 0);
            reset.flags = tcp_flags::RST;
        } else {
            (reset.sequence, reset.acknowledgment) = (0, tcp.sequence.wrapping_add(length));
            reset.flags = tcp_flags::RST | tcp_flags::ACK;
        }
        (reset.window, reset.urgent) = (0, 0);
        reset.options.clear();
        match &mut answer.ip {
            Ip::V4(ip) => std::mem::swap(&mut ip.source, &mut ip.destination),
            Ip::V6(ip) => std::mem::swap(&mut ip.source, &mut ip.destination),
        }
        returned(answer, &about)
    }
}

/// The frame's way back, and the header that the forwarder writes: 64 hops, nothing special about it.
fn returned(mut answer: Packet, about: &Packet) -> Packet {
    answer.ethernet.vlans.clone_from(&about.ethernet.vlans);
    for vlan in &mut answer.ethernet.vlans {
        vlan.control &= 0x0fff;
    }
    match &mut answer.ip {
        Ip::V4(ip) => {
            (ip.tos, ip.id, ip.dont_fragment, ip.ttl) = (0, 0, true, 64);
            ip.options.clear();
        }
        Ip::V6(ip) => {
            (ip.traffic_class, ip.flow_label, ip.hop_limit) = (0, 0, 64);
            ip.extensions.clear();
        }
    }
    answer.trailer.clear();
    answer.with_macs(about.ethernet.destination, about.ethernet.source)
}
