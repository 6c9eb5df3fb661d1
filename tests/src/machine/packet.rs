//! A packet in its buffer, the context that describes it, and what helpers do to both.

use super::memory::PACKET;

/// Bytes in front of a packet (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
/// Of these, what the kernel keeps for itself (`struct xdp_frame`).
const KEPT: usize = 40;
/// Bytes of the buffer that a packet may take: a page without `struct skb_shared_info`.
const BUFFER: usize = 4096 - 320;
/// Bytes of an Ethernet header, less than which no packet may become.
const ETHERNET: usize = 14;

/// `EINVAL` as helpers return it.
const INVALID: i64 = -22;

/// Where a packet is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// On XDP, of this device.
    Xdp(u32),
    /// On TC.
    Skb {
        /// The device it came in by; 0 for none.
        ingress: u32,
        /// The device it is on.
        device: u32,
    },
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Packet {
    arrival: Arrival,
    context: Vec<u8>,
    buffer: Vec<u8>,
    /// Offsets in the buffer: metadata in front of the packet, its first byte, and behind its last one.
    meta: usize,
    start: usize,
    end: usize,
}

impl Packet {
    /// `frame` as it is met there.
    #[must_use]
    pub fn new(arrival: Arrival, frame: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER.max(HEADROOM + frame.len())];
        buffer[HEADROOM..][..frame.len()].copy_from_slice(frame);
        let (start, end) = (HEADROOM, HEADROOM + frame.len());
        let mut packet = Self {
            arrival,
            // `struct xdp_md` and `struct __sk_buff` in include/uapi/linux/bpf.h.
            context: vec![
                0;
                if matches!(arrival, Arrival::Xdp(_)) {
                    24
                } else {
                    192
                }
            ],
            buffer,
            meta: start,
            start,
            end,
        };
        match arrival {
            Arrival::Xdp(device) => packet.describe(12, device),
            Arrival::Skb { ingress, device } => {
                packet.describe(36, ingress);
                packet.describe(40, device);
            }
        }
        packet.moved();
        packet
    }

    /// Whether it is met on XDP.
    #[must_use]
    pub fn is_xdp(&self) -> bool {
        matches!(self.arrival, Arrival::Xdp(_))
    }

    /// What the kernel's test run gives out: on XDP the metadata as well.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        let start = if self.is_xdp() { self.meta } else { self.start };
        &self.buffer[start..self.end]
    }

    /// Bytes of the context.
    #[must_use]
    pub fn context(&self, offset: usize, length: usize) -> Option<&[u8]> {
        self.context.get(offset..offset + length)
    }

    /// Bytes of the context, to be written.
    pub fn context_mut(&mut self, offset: usize, length: usize) -> Option<&mut [u8]> {
        self.context.get_mut(offset..offset + length)
    }

    /// Bytes of the buffer, if they are the packet's or its metadata's.
    #[must_use]
    pub fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        let inside = offset >= self.meta && offset + length <= self.end;
        inside.then(|| &self.buffer[offset..offset + length])
    }

    /// As [`Packet::bytes`], to be written.
    pub fn bytes_mut(&mut self, offset: usize, length: usize) -> Option<&mut [u8]> {
        let inside = offset >= self.meta && offset + length <= self.end;
        inside.then(|| &mut self.buffer[offset..offset + length])
    }

    /// So many bytes of the packet, from `offset` on.
    #[must_use]
    pub fn within(&self, offset: usize, length: usize) -> Option<&[u8]> {
        self.bytes(self.start.checked_add(offset)?, length)
    }

    /// As [`Packet::within`], to be written.
    pub fn within_mut(&mut self, offset: usize, length: usize) -> Option<&mut [u8]> {
        self.bytes_mut(self.start.checked_add(offset)?, length)
    }

    fn length(&self) -> usize {
        self.end - self.start
    }

    fn describe(&mut self, offset: usize, value: u32) {
        self.context[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Writes into the context where the packet is.
    fn moved(&mut self) {
        let at = |offset: usize| PACKET as u32 + offset as u32;
        let [start, end, meta] = [at(self.start), at(self.end), at(self.meta)];
        let offsets = if self.is_xdp() {
            [0, 4, 8]
        } else {
            [76, 80, 140]
        };
        for (offset, value) in offsets.into_iter().zip([start, end, meta]) {
            self.describe(offset, value);
        }
        if !self.is_xdp() {
            self.describe(0, self.length() as u32);
        }
    }

    /// `bpf_xdp_adjust_head`.
    pub fn adjust_head(&mut self, by: i32) -> i64 {
        let metadata = self.start - self.meta;
        let start = self.start.checked_add_signed(by as isize);
        let Some(start) = start.filter(|it| (KEPT + metadata..=self.end - ETHERNET).contains(it))
        else {
            return INVALID;
        };
        let meta = start - metadata;
        self.buffer.copy_within(self.meta..self.start, meta);
        (self.meta, self.start) = (meta, start);
        self.moved();
        0
    }

    /// `bpf_xdp_adjust_meta`.
    pub fn adjust_meta(&mut self, by: i32) -> i64 {
        let meta = self.meta.checked_add_signed(by as isize);
        let Some(meta) = meta.filter(|it| (KEPT..=self.start).contains(it)) else {
            return INVALID;
        };
        self.meta = meta;
        self.moved();
        0
    }

    /// `bpf_xdp_adjust_tail`.
    pub fn adjust_tail(&mut self, by: i32) -> i64 {
        let end = self.end.checked_add_signed(by as isize);
        match end.filter(|it| *it >= self.start + ETHERNET) {
            Some(end) => self.cut(end),
            None => INVALID,
        }
    }

    /// `bpf_skb_change_tail`.
    pub fn change_tail(&mut self, length: usize) -> i64 {
        self.cut(self.start + length)
    }

    /// Makes it end there; what is new is zero.
    fn cut(&mut self, end: usize) -> i64 {
        if end > self.buffer.len() {
            return INVALID;
        }
        if end > self.end {
            self.buffer[self.end..end].fill(0);
        }
        self.end = end;
        self.moved();
        0
    }

    /// `bpf_skb_adjust_room` with `BPF_ADJ_ROOM_MAC`: makes room behind the Ethernet header.
    pub fn make_room(&mut self, bytes: usize) -> i64 {
        let Some(start) = self.start.checked_sub(bytes) else {
            return INVALID;
        };
        self.buffer
            .copy_within(self.start..self.start + ETHERNET, start);
        self.buffer[start + ETHERNET..self.start + ETHERNET].fill(0);
        (self.start, self.meta) = (start, start);
        self.moved();
        0
    }
}
