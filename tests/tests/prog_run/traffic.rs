//! The packets of one connection as they arrive at the gateway and leave it.

use tests::packet::{Packet, tcp_flags};

use super::bench::Bench;
use super::topology::Device;

/// A connection through the gateway, seen from both sides.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client.
    pub client: String,
    /// What it talks to.
    pub listener: String,
    /// Whom the backend sees.
    pub source: String,
    /// The backend, a host with a known MAC address.
    pub backend: String,
    /// The device that the client's packets come in by, and the last octet of whom they come from there.
    pub near: (Device, u8),
    /// The device towards the backend, and the last octet of the next hop there if that is not the backend itself.
    pub far: (Device, Option<u8>),
}

/// The client of most tests.
pub const CLIENT: &str = "198.51.100.7:25000";
/// What it talks to.
pub const LISTENER: &str = "203.0.113.5:110";
/// Where that leads.
pub const SERVER: &str = "10.0.0.2:110";

/// Last octet of the address of the router that clients are behind.
pub const ROUTER: u8 = 254;

/// Payload of odd length, so that the last byte of the checksum's sum counts.
pub const PAYLOAD: &[u8] = b"+OK ready\r\n";

impl Default for Connection {
    /// With the client's address preserved.
    fn default() -> Self {
        Self::new(CLIENT, LISTENER, CLIENT, SERVER)
    }
}

impl Connection {
    /// `source` is whom the backend sees.
    pub fn new(client: &str, listener: &str, source: &str, backend: &str) -> Self {
        Self {
            client: client.to_owned(),
            listener: listener.to_owned(),
            source: source.to_owned(),
            backend: backend.to_owned(),
            near: (Device::Wan, ROUTER),
            far: (Device::Lan, None),
        }
    }

    /// A connection of a client of the LAN, 10.0.0.x, that goes out as `source`.
    pub fn outbound(client: &str, server: &str, source: &str) -> Self {
        Self {
            near: (Device::Lan, host(client)),
            far: (Device::Wan, Some(ROUTER)),
            ..Self::new(client, server, source, server)
        }
    }

    /// Whom packets come from: its MAC address, and that of the device they come in by.
    fn near_macs(&self) -> ([u8; 6], [u8; 6]) {
        let (device, host) = self.near;
        (device.neighbour(host), device.mac())
    }

    /// The MAC addresses of what comes from the backend.
    fn far_macs(&self) -> ([u8; 6], [u8; 6]) {
        let (device, router) = self.far;
        let router = router.unwrap_or_else(|| host(&self.backend));
        (device.neighbour(router), device.mac())
    }

    /// `packet`, which has any tuple, as it comes from the client.
    pub fn request(&self, packet: Packet) -> Packet {
        let (from, to) = self.near_macs();
        packet
            .with_source(&self.client)
            .with_destination(&self.listener)
            .with_macs(from, to)
    }

    /// As it goes to the backend.
    pub fn forwarded(&self, packet: Packet) -> Packet {
        let (to, from) = self.far_macs();
        packet
            .with_source(&self.source)
            .with_destination(&self.backend)
            .with_macs(from, to)
            .with_ttl(63)
    }

    /// As it comes from the backend.
    pub fn reply(&self, packet: Packet) -> Packet {
        let (from, to) = self.far_macs();
        packet
            .with_source(&self.backend)
            .with_destination(&self.source)
            .with_macs(from, to)
    }

    /// As it goes to the client.
    pub fn returned(&self, packet: Packet) -> Packet {
        let (to, from) = self.near_macs();
        packet
            .with_source(&self.listener)
            .with_destination(&self.client)
            .with_macs(from, to)
            .with_ttl(63)
    }

    /// Sends a packet like `packet` from the client and asserts how it reaches the backend.
    #[track_caller]
    pub fn send(&self, bench: &mut Bench, packet: &Packet) {
        let (sent, expected) = (self.request(packet.clone()), self.forwarded(packet.clone()));
        bench.forwards(self.near.0, &sent, self.far.0, &expected);
    }

    /// Sends a packet like `packet` from the backend and asserts how it reaches the client.
    #[track_caller]
    pub fn answer(&self, bench: &mut Bench, packet: &Packet) {
        let (sent, expected) = (self.reply(packet.clone()), self.returned(packet.clone()));
        bench.forwards(self.far.0, &sent, self.near.0, &expected);
    }

    /// The three packets that open a TCP connection.
    #[track_caller]
    pub fn handshake(&self, bench: &mut Bench) {
        self.send(bench, &syn());
        self.answer(bench, &tcp(tcp_flags::SYN | tcp_flags::ACK));
        self.send(bench, &tcp(tcp_flags::ACK));
    }

    /// How the flow tables list it.
    pub fn described(&self, state: &str) -> String {
        let Self {
            client,
            listener,
            source,
            backend,
            ..
        } = self;
        format!("{client} > {listener}, {backend} > {source}, {state}")
    }
}

/// The last octet of the address in `ADDR:PORT`.
fn host(end: &str) -> u8 {
    let (address, _) = end.split_once(':').expect("ADDR:PORT");
    let (_, host) = address.rsplit_once('.').expect("an address");
    host.parse().expect("an octet")
}

/// Any tuple: [`Connection`] replaces it.
const ANY: &str = "192.0.2.99:9";

/// A SYN with options.
pub fn syn() -> Packet {
    Packet::syn(ANY, ANY)
}

/// A segment with a payload unless it is part of a handshake or an end.
pub fn tcp(flags: u8) -> Packet {
    let packet = Packet::tcp(ANY, ANY, flags);
    if flags & tcp_flags::PSH != 0 {
        packet.with_payload(PAYLOAD)
    } else {
        packet
    }
}

/// A datagram.
pub fn udp() -> Packet {
    Packet::udp(ANY, ANY).with_payload(PAYLOAD)
}
