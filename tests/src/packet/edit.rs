//! Changes to a [`Packet`], to be chained.

use super::{Checksum, Extension, Ip, Packet, Transport, Vlan, socket_addr};

/// Edits, each of which returns the packet so that they can be chained.
impl Packet {
    /// Sets what follows the transport header.
    #[must_use]
    pub fn with_payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Sets source and destination MAC address.
    #[must_use]
    pub fn with_macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        self.ethernet.source = source;
        self.ethernet.destination = destination;
        self
    }

    /// Adds an 802.1Q tag inside the ones already there.
    #[must_use]
    pub fn with_vlan(mut self, id: u16) -> Self {
        self.ethernet.vlans.push(Vlan::customer(id));
        self
    }

    /// Sets source address and port; ICMP and others have no port and ignore it.
    ///
    /// # Panics
    /// If the address does not parse or is of the other family.
    #[must_use]
    pub fn with_source(mut self, source: &str) -> Self {
        let source = socket_addr(source);
        self.ip.set_source(source.ip());
        self.transport.set_source_port(source.port());
        self
    }

    /// Sets destination address and port; ICMP and others have no port and ignore it.
    ///
    /// # Panics
    /// If the address does not parse or is of the other family.
    #[must_use]
    pub fn with_destination(mut self, destination: &str) -> Self {
        let destination = socket_addr(destination);
        self.ip.set_destination(destination.ip());
        self.transport.set_destination_port(destination.port());
        self
    }

    /// Sets the time to live or hop limit.
    #[must_use]
    pub fn with_ttl(mut self, ttl: u8) -> Self {
        match &mut self.ip {
            Ip::V4(ip) => ip.ttl = ttl,
            Ip::V6(ip) => ip.hop_limit = ttl,
        }
        self
    }

    /// Sets the IPv4 options: a multiple of four bytes, 40 at most (IHL 5 to 15).
    ///
    /// # Panics
    /// If the packet is IPv6.
    #[must_use]
    pub fn with_ip_options(mut self, options: &[u8]) -> Self {
        self.ipv4_mut().options = options.to_vec();
        self
    }

    /// Makes a fragment, or changes one: `offset` in units of 8 bytes. [`Packet::fragments`] cuts a packet properly.
    #[must_use]
    pub fn with_fragment(mut self, offset: u16, more: bool) -> Self {
        match &mut self.ip {
            Ip::V4(ip) => {
                ip.dont_fragment = false;
                ip.fragment_offset = offset;
                ip.more_fragments = more;
            }
            Ip::V6(ip) => {
                let known = ip.extensions.iter_mut().find_map(|it| match it {
                    Extension::Fragment { offset, more, .. } => Some((offset, more)),
                    _ => None,
                });
                match known {
                    Some(known) => (*known.0, *known.1) = (offset, more),
                    None => ip.extensions.push(Extension::Fragment {
                        offset,
                        more,
                        id: 0x1234,
                    }),
                }
            }
        }
        self
    }

    /// Adds an IPv6 extension header behind the ones already there.
    ///
    /// # Panics
    /// If the packet is IPv4.
    #[must_use]
    pub fn with_extension(mut self, extension: Extension) -> Self {
        match &mut self.ip {
            Ip::V6(ip) => ip.extensions.push(extension),
            Ip::V4(_) => panic!("an IPv4 packet has no extension headers"),
        }
        self
    }

    /// Lets routers fragment the packet, which IPv6 has no word for.
    ///
    /// # Panics
    /// If the packet is IPv6.
    #[must_use]
    pub fn with_fragmentation_allowed(mut self) -> Self {
        self.ipv4_mut().dont_fragment = false;
        self
    }

    /// Sets the TCP options: a multiple of four bytes, 40 at most.
    ///
    /// # Panics
    /// If the packet is not TCP.
    #[must_use]
    pub fn with_tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_mut().options = options.to_vec();
        self
    }

    /// Says what the transport checksum is to be.
    ///
    /// # Panics
    /// If the transport has none.
    #[must_use]
    pub fn with_checksum(mut self, checksum: Checksum) -> Self {
        match &mut self.transport {
            Transport::Tcp(tcp) => tcp.checksum = checksum,
            Transport::Udp(udp) => udp.checksum = checksum,
            Transport::Icmp(icmp) => icmp.checksum = checksum,
            Transport::Other(protocol) => panic!("protocol {protocol} has no checksum here"),
        }
        self
    }

    /// Pads the frame to the 60 bytes the smallest Ethernet frame has without its FCS.
    #[must_use]
    pub fn with_padding(mut self) -> Self {
        self.trailer.clear();
        self.trailer = vec![0; 60_usize.saturating_sub(self.to_bytes().len())];
        self
    }
}
