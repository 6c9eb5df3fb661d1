//! The two MAC addresses at the start of an Ethernet frame, as three words.
//!
//! Read, compared and written as words they cost three loads or stores; as twelve bytes, twelve.

/// The first twelve bytes of a frame, destination before source, as natively loaded words.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macs(pub [u32; 3]);

impl Macs {
    /// From two addresses.
    #[inline(always)]
    pub const fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let [d0, d1, d2, d3, d4, d5] = destination;
        let [s0, s1, s2, s3, s4, s5] = source;
        Self([
            u32::from_ne_bytes([d0, d1, d2, d3]),
            u32::from_ne_bytes([d4, d5, s0, s1]),
            u32::from_ne_bytes([s2, s3, s4, s5]),
        ])
    }

    /// The frame's way back: both addresses exchanged.
    #[inline(always)]
    pub const fn swapped(self) -> Self {
        Self::new(self.source(), self.destination())
    }

    /// Whom the frame is for.
    #[inline(always)]
    pub const fn destination(self) -> [u8; 6] {
        let [a, b, _] = self.0;
        let ([d0, d1, d2, d3], [d4, d5, _, _]) = (a.to_ne_bytes(), b.to_ne_bytes());
        [d0, d1, d2, d3, d4, d5]
    }

    /// Whom it is from.
    #[inline(always)]
    pub const fn source(self) -> [u8; 6] {
        let [_, b, c] = self.0;
        let ([_, _, s0, s1], [s2, s3, s4, s5]) = (b.to_ne_bytes(), c.to_ne_bytes());
        [s0, s1, s2, s3, s4, s5]
    }

    /// Whether the frame is for the device whose frames start as `device`'s do.
    #[inline(always)]
    pub const fn is_for(self, device: Self) -> bool {
        let [_, _, h, l] = u32::to_ne_bytes(u32::MAX);
        let half = u32::from_ne_bytes([h, l, 0, 0]);
        self.0[0] == device.0[0] && (self.0[1] ^ device.0[1]) & half == 0
    }

    /// A digest of the way a packet came in by: device, last router, and the MAC it was sent to. A client
    /// who moves to another router or device, and a frame that was meant for another host, are both
    /// noticed by comparing one word.
    #[inline(always)]
    pub const fn arrival_mark(self, ingress: u32) -> u32 {
        let [a, b, c] = self.0;
        // 2^32 divided by the golden ratio: neighbouring device indices differ in every byte.
        ingress.wrapping_mul(0x9e37_79b1) ^ a ^ b.rotate_left(7) ^ c.rotate_left(13)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn addresses_survive_the_words() {
        let macs = Macs::new(OWN, ROUTER);
        assert_eq!((macs.destination(), macs.source()), (OWN, ROUTER));
        assert_eq!(macs.swapped(), Macs::new(ROUTER, OWN));
    }

    #[test]
    fn a_frame_is_for_a_device_whoever_sent_it() {
        let device = Macs::new(OWN, [0; 6]);
        assert!(Macs::new(OWN, ROUTER).is_for(device));
        for octet in 0..6 {
            let mut other = OWN;
            other[octet] ^= 1;
            assert!(!Macs::new(other, ROUTER).is_for(device), "octet {octet}");
        }
    }

    #[test]
    fn arrival_marks_tell_devices_and_routers_apart() {
        let mark = Macs::new(OWN, ROUTER).arrival_mark(3);
        assert_ne!(mark, Macs::new(OWN, ROUTER).arrival_mark(4));
        for octet in 0..6 {
            let mut other = ROUTER;
            other[octet] ^= 1;
            assert_ne!(
                mark,
                Macs::new(OWN, other).arrival_mark(3),
                "source octet {octet}"
            );
            let mut other = OWN;
            other[octet] ^= 1;
            assert_ne!(
                mark,
                Macs::new(other, ROUTER).arrival_mark(3),
                "destination octet {octet}"
            );
        }
    }
}
