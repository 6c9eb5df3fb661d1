//! Packets cut into fragments.

use std::ops::Range;

use super::{Extension, Ip, Packet, Transport, decode};

/// Fragments (RFC 791 section 3.2, RFC 8200 section 4.5). Each is what [`decode`] makes of it: the first one has a
/// transport header with the checksum of the whole as [`Checksum::Wire`](super::Checksum::Wire), later ones have none.
impl Packet {
    /// The packet in fragments that carry `size` bytes each, the last one fewer. IPv4 has 16 bits of `id`.
    ///
    /// # Panics
    /// If `size` is not a multiple of eight: a mistake in the test itself.
    #[must_use]
    pub fn fragments(&self, id: u32, size: usize) -> Vec<Self> {
        let length = self.fragmentable().len();
        (0..length)
            .step_by(size)
            .map(|start| self.fragment(id, start..length.min(start + size)))
            .collect()
    }

    /// The fragment with these bytes of what can be fragmented: whatever follows the IPv4 header, or in IPv6 the
    /// headers that every router reads.
    ///
    /// # Panics
    /// If the range does not begin at a multiple of eight, or is not last and does not end at one.
    #[must_use]
    pub fn fragment(&self, id: u32, bytes: Range<usize>) -> Self {
        let whole = self.fragmentable();
        let more = bytes.end < whole.len();
        assert!(
            bytes.start.is_multiple_of(8) && (!more || bytes.end.is_multiple_of(8)),
            "{bytes:?} are not whole units of eight bytes"
        );
        let offset = u16::try_from(bytes.start / 8).expect("a packet has at most 65535 bytes");
        let mut fragment = Self {
            transport: Transport::Other(self.protocol()),
            payload: whole[bytes].to_vec(),
            trailer: Vec::new(),
            ..self.clone()
        };
        match &mut fragment.ip {
            Ip::V4(ip) => {
                ip.id = u16::try_from(id & 0xffff).expect("16 bits");
                ip.dont_fragment = false;
                ip.more_fragments = more;
                ip.fragment_offset = offset;
            }
            Ip::V6(ip) => {
                let kept = per_fragment(&ip.extensions);
                if let Some(first) = ip.extensions.get(kept) {
                    fragment.transport = Transport::Other(first.number().0);
                }
                ip.extensions.truncate(kept);
                ip.extensions.push(Extension::Fragment { offset, more, id });
            }
        }
        decode(&fragment.to_bytes()).expect("a fragment is a packet")
    }

    /// What can be distributed over fragments.
    fn fragmentable(&self) -> Vec<u8> {
        let frame = self.to_bytes();
        let start = match &self.ip {
            Ip::V4(_) => self.transport_offset(),
            Ip::V6(ip) => {
                let kept = &ip.extensions[..per_fragment(&ip.extensions)];
                self.network_offset() + 40 + kept.iter().map(Extension::len).sum::<usize>()
            }
        };
        frame[start..frame.len() - self.trailer.len()].to_vec()
    }
}

/// How many extension headers precede the fragment header: up to the last that routers on the way read.
fn per_fragment(extensions: &[Extension]) -> usize {
    let last = extensions.iter().rposition(Extension::is_per_fragment);
    last.map_or(0, |last| last + 1)
}
