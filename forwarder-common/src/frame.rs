//! Bounds-checked access to a packet, wherever it lies.

use crate::checksum::Delta;

/// Reads a `T` from packet memory at any alignment.
///
/// # Safety
///
/// `pointer` must lead to `size_of::<T>()` readable bytes, and `T` must be an integer.
#[inline(always)]
pub unsafe fn read<T: Copy>(pointer: *const T) -> T {
    if cfg!(target_arch = "bpf") {
        // One load instead of one for every byte: LLVM takes the type's word for the alignment. The
        // verifier, which knows the machine, decides whether that is allowed (it is where the kernel has
        // HAVE_EFFICIENT_UNALIGNED_ACCESS, and elsewhere it accounts for NET_IP_ALIGN).
        // SAFETY: the caller's promise; BPF has no undefined behaviour for unaligned packet access.
        unsafe { pointer.read() }
    } else {
        // SAFETY: the caller's promise.
        unsafe { pointer.read_unaligned() }
    }
}

/// Writes a `T` to packet memory at any alignment; see [`read`].
///
/// # Safety
///
/// `pointer` must lead to `size_of::<T>()` writable bytes, and `T` must be an integer.
#[inline(always)]
pub unsafe fn write<T: Copy>(pointer: *mut T, value: T) {
    if cfg!(target_arch = "bpf") {
        // SAFETY: the caller's promise; see `read`.
        unsafe { pointer.write(value) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { pointer.write_unaligned(value) };
    }
}

/// Reads the `T` that lies `offset` bytes into a header; see [`read`].
///
/// # Safety
///
/// `header` must lead to `offset + size_of::<T>()` readable bytes, and `T` must be an integer.
#[inline(always)]
pub unsafe fn read_field<T: Copy>(header: *const u8, offset: usize) -> T {
    // SAFETY: the caller's promise.
    let field = unsafe { header.add(offset) };
    // SAFETY: as above.
    unsafe { read(field.cast()) }
}

/// Writes the `T` that lies `offset` bytes into a header; see [`read`].
///
/// # Safety
///
/// `header` must lead to `offset + size_of::<T>()` writable bytes, and `T` must be an integer.
#[inline(always)]
pub unsafe fn write_field<T: Copy>(header: *mut u8, offset: usize, value: T) {
    // SAFETY: the caller's promise.
    let field = unsafe { header.add(offset) };
    // SAFETY: as above.
    unsafe { write(field.cast(), value) };
}

/// Reads three consecutive words; see [`read`].
///
/// # Safety
///
/// `pointer` must lead to twelve readable bytes.
#[inline(always)]
pub unsafe fn read_words(pointer: *const u32) -> [u32; 3] {
    let mut words = [0; 3];
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let from = unsafe { pointer.add(index) };
        // SAFETY: as above.
        *word = unsafe { read(from) };
    }
    words
}

/// Writes three consecutive words; see [`read`].
///
/// # Safety
///
/// `pointer` must lead to twelve writable bytes.
#[inline(always)]
pub unsafe fn write_words(pointer: *mut u32, words: [u32; 3]) {
    for (index, word) in words.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        let to = unsafe { pointer.add(index) };
        // SAFETY: as above.
        unsafe { write(to, word) };
    }
}

/// What follows an IP header, and so what an edit must update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Checksum at offset 16, always present.
    Tcp,
    /// Checksum at offset 6; zero means absent (over IPv4).
    Udp,
    /// An ICMP echo request, or any other ICMP message whose checksum is to be updated.
    Echo,
    /// An ICMP echo reply.
    EchoReply,
    /// Anything else, which is not translated.
    Other,
    /// The rest of a datagram: a fragment that is not the first, without a transport header.
    Tail,
}

impl Transport {
    /// Offset of the checksum field in the transport header (RFC 9293 section 3.1, RFC 768, RFC 792).
    #[inline(always)]
    pub const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
            _ => 2,
        }
    }
}

/// One packet, starting at its Ethernet header.
///
/// Three things implement it: an XDP buffer, an skb on TC, and a byte slice on the host. Pointers that
/// [`Frame::at`] returned stay good until [`Frame::update_transport_checksum`], which may move the
/// packet and is therefore the last edit.
pub trait Frame {
    /// A pointer to the `T` that starts `offset` bytes into the frame, at whatever alignment, if all of it
    /// lies inside.
    fn at<T>(&self, offset: usize) -> Option<*mut T>;

    /// Length of the frame in bytes from the Ethernet header on.
    fn length(&self) -> u32;

    /// The one's-complement sum of the `N` bytes from `offset` on, a multiple of four and at most 512, not
    /// folded.
    fn sum<const N: usize>(&self, offset: usize) -> Option<u32> {
        let bytes = self.at::<[u8; N]>(offset)?;
        // SAFETY: `at` bounds-checked them, and an array of octets has no alignment.
        let bytes = unsafe { &*bytes };
        let mut sum = 0_u64;
        for word in bytes.as_chunks::<4>().0 {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        while sum >> 32 != 0 {
            sum = (sum & 0xffff_ffff) + (sum >> 32);
        }
        Some(sum as u32)
    }

    /// `value`, once the verifier has forgotten what it knows of it: states that differ in nothing else are then
    /// one state to it. On the host there is nothing to forget.
    fn forget(&self, value: u32) -> u32 {
        value
    }

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
}

/// Updates a checksum field that lies wholly in packet memory.
///
/// # Safety
///
/// `field` must point to two bytes that may be read and written.
#[inline(always)]
pub unsafe fn update_checksum_field(field: *mut u16, transport: Transport, delta: Delta) {
    // SAFETY: the caller's promise.
    let check = unsafe { read(field) };
    let updated = match transport {
        Transport::Udp => delta.apply_udp(check),
        _ => delta.apply(check),
    };
    // SAFETY: the caller's promise.
    unsafe { write(field, updated) };
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
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
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
        if let Some(field) = self.at::<u16>(offset) {
            // SAFETY: `at` checked the two bytes.
            unsafe { update_checksum_field(field, transport, addresses.then(ports)) };
        }
    }
}
