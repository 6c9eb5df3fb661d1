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

    /// A digest of the way a packet came in by, and of a stamp that is counted up when what is known of ways grows
    /// old: device, last router, and the MAC it was sent to. A client who moves to another router or device, a frame
    /// that was meant for another host, and a change of the network are all noticed by comparing one word. Never 0.
    #[inline(always)]
    pub const fn proof(self, ingress: u32, stamp: u32) -> u32 {
        let [a, b, c] = self.0;
        // 2^32 divided by the golden ratio, and a factor of MurmurHash3's finalizer: neighbouring numbers differ in
        // every byte.
        let numbers = ingress.wrapping_mul(0x9e37_79b1) ^ stamp.wrapping_mul(0x85eb_ca6b);
        let digest = numbers ^ a ^ b.rotate_left(7) ^ c.rotate_left(13);
        if digest == 0 { 1 } else { digest }
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
    fn proofs_tell_devices_routers_and_stamps_apart() {
        let proof = Macs::new(OWN, ROUTER).proof(3, 9);
        assert_ne!(proof, Macs::new(OWN, ROUTER).proof(4, 9));
        assert_ne!(proof, Macs::new(OWN, ROUTER).proof(3, 10));
        for octet in 0..6 {
            let mut other = ROUTER;
            other[octet] ^= 1;
            assert_ne!(
                proof,
                Macs::new(OWN, other).proof(3, 9),
                "source octet {octet}"
            );
            let mut other = OWN;
            other[octet] ^= 1;
            assert_ne!(
                proof,
                Macs::new(other, ROUTER).proof(3, 9),
                "destination octet {octet}"
            );
        }
        assert_eq!(Macs::default().proof(0, 0), 1);
    }
}
