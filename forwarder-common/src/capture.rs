//! Copies of packets before and after translation, for `forwarder capture`.

/// What is to be copied: entry 0 of its table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Slot of the rule whose packets are wanted, or [`ANY_RULE`].
    pub rule: u32,
    /// Bytes of each packet, from the Ethernet header on, at most [`LONGEST`].
    pub length: u32,
}

/// [`Order::rule`]: the packets of every rule.
pub const ANY_RULE: u32 = u32::MAX;
/// The most bytes of a packet that are copied. The kernel's records of events have 16-bit lengths.
pub const LONGEST: u32 = 32 * 1024;

/// What stands before a packet's bytes in its copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// `bpf_ktime_get_ns`.
    pub time: u64,
    /// Slot of the rule.
    pub rule: u32,
    /// Index of the device: before translation the one it came in by, after it the one it leaves by. 0 for this host
    /// itself.
    pub device: u32,
    /// Bytes of the packet.
    pub length: u32,
    /// Bytes that follow.
    pub captured: u32,
    /// [`AFTER`], [`REPLY`], [`SLOW`], [`UNADDRESSED`].
    pub flags: u32,
    /// Zero.
    pub padding: u32,
}

/// [`Sample::flags`]: after translation.
pub const AFTER: u32 = 1;
/// [`Sample::flags`]: in the direction of replies.
pub const REPLY: u32 = 2;
/// [`Sample::flags`]: on TC.
pub const SLOW: u32 = 4;
/// [`Sample::flags`]: its Ethernet header is not final, as the kernel writes it when the next hop has answered.
pub const UNADDRESSED: u32 = 8;

const _: () = assert!(size_of::<Order>() == 8);
const _: () = assert!(size_of::<Sample>() == 32);

impl Sample {
    /// Reads what stands before the packet's bytes, and these. `None` if there are fewer than it says.
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(size_of::<Self>())?;
        let word = |at: usize| {
            let bytes = head.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let sample = Self {
            time: u64::from_ne_bytes(head.get(..8)?.try_into().ok()?),
            rule: word(8)?,
            device: word(12)?,
            length: word(16)?,
            captured: word(20)?,
            flags: word(24)?,
            padding: word(28)?,
        };
        // The kernel pads to eight bytes.
        let packet = rest.get(..sample.captured as usize)?;
        Some((sample, packet))
    }
}

// SAFETY: two integers, no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Order {}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn what_follows_is_as_long_as_it_says() {
        let sample = Sample {
            time: 1,
            rule: 2,
            device: 3,
            length: 1500,
            captured: 5,
            flags: 4,
            padding: 0,
        };
        let mut bytes = sample.time.to_ne_bytes().to_vec();
        for word in [2_u32, 3, 1500, 5, 4, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(b"hello\0\0\0");
        assert_eq!(Sample::split(&bytes), Some((sample, b"hello".as_slice())));
        for length in 0..bytes.len() - 3 {
            assert_eq!(Sample::split(&bytes[..length]), None, "{length}");
        }
    }
}
