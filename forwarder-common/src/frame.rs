//! Bounds-checked access to a packet, wherever it lies.

use network_types::{eth::EthHdr, ip::Ipv4Hdr, tcp::TcpHdr, udp::UdpHdr};

use crate::checksum::Delta;

/// A header that may be read from and written to packet bytes at any alignment.
///
/// # Safety
///
/// Every bit pattern is a valid value, and there is no padding.
pub unsafe trait Header: Copy {}

// SAFETY: byte arrays and integers only, no padding.
unsafe impl Header for EthHdr {}
// SAFETY: byte arrays only.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: byte arrays only.
unsafe impl Header for TcpHdr {}
// SAFETY: byte arrays only.
unsafe impl Header for UdpHdr {}
// SAFETY: an array of bytes.
unsafe impl<const N: usize> Header for [u8; N] {}

/// Which checksum a transport header carries, and so how an edit must update it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Checksum at offset 16, always present.
    Tcp,
    /// Checksum at offset 6; zero means absent.
    Udp,
}

impl Transport {
    /// Offset of the checksum field in the transport header (RFC 9293 section 3.1, RFC 768).
    #[inline(always)]
    pub const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// One packet, starting at its Ethernet header.
///
/// Three things implement it: an XDP buffer, an skb on TC, and a byte slice on the host. Pointers that
/// [`Frame::at`] returned stay good until [`Frame::update_transport_checksum`], which may move the
/// packet and is therefore the last edit.
pub trait Frame {
    /// A pointer to the `T` that starts `offset` bytes into the frame, if all of it lies inside.
    fn at<T: Header>(&self, offset: usize) -> Option<*mut T>;

    /// Length of the frame in bytes from the Ethernet header on.
    fn length(&self) -> u32;

    /// Adjusts the transport checksum at `offset` bytes into the frame, which [`Frame::at`] has found to
    /// lie inside. `addresses` is the change that the pseudo-header sees, `ports` the change of the
    /// transport header itself: a checksum left for the device to finish holds only the former.
    fn update_transport_checksum(
        &mut self,
        transport: Transport,
        offset: usize,
        addresses: Delta,
        ports: Delta,
    );

    /// Reads the `T` at `offset`.
    #[inline(always)]
    fn load<T: Header>(&self, offset: usize) -> Option<T> {
        let pointer = self.at::<T>(offset)?;
        // SAFETY: `at` checked that the whole of `T` lies in the frame, and `Header` takes any bits.
        Some(unsafe { pointer.read_unaligned() })
    }
}

/// Updates a checksum field that lies wholly in packet memory.
///
/// # Safety
///
/// `field` must point to two bytes that may be read and written.
#[inline(always)]
pub unsafe fn update_checksum_field(field: *mut [u8; 2], transport: Transport, delta: Delta) {
    // SAFETY: the caller's promise.
    let check = u16::from_ne_bytes(unsafe { field.read() });
    let updated = match transport {
        Transport::Tcp => delta.apply(check),
        Transport::Udp => delta.apply_udp(check),
    };
    // SAFETY: the caller's promise.
    unsafe { field.write(updated.to_ne_bytes()) };
}

/// A packet in host memory: how tests and tools run the same code.
#[derive(Debug)]
pub struct SliceFrame<'a> {
    start: *mut u8,
    length: usize,
    bytes: core::marker::PhantomData<&'a mut [u8]>,
}

impl<'a> SliceFrame<'a> {
    /// Wraps the bytes of one frame.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self {
            start: bytes.as_mut_ptr(),
            length: bytes.len(),
            bytes: core::marker::PhantomData,
        }
    }
}

impl Frame for SliceFrame<'_> {
    fn at<T: Header>(&self, offset: usize) -> Option<*mut T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.length {
            return None;
        }
        // SAFETY: `offset` was just found to lie inside the slice.
        Some(unsafe { self.start.add(offset) }.cast())
    }

    fn length(&self) -> u32 {
        self.length as u32
    }

    fn update_transport_checksum(
        &mut self,
        transport: Transport,
        offset: usize,
        addresses: Delta,
        ports: Delta,
    ) {
        if let Some(field) = self.at::<[u8; 2]>(offset) {
            // SAFETY: `at` checked the two bytes.
            unsafe { update_checksum_field(field, transport, addresses.then(ports)) };
        }
    }
}
