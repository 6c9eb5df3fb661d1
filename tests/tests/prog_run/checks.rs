//! What a packet may come to: each check is of verdict, every byte, and everything counted.

use std::net::IpAddr;

use forwarder::datapath::{Refused, TestRun};
use forwarder_common::device::HANDOFF;
use forwarder_common::reason::{Reason, Verdict};
use tests::packet::{Packet, assert_frame};

use super::bench::{Bench, Hook};
use super::topology::Device;

/// Packets are put into the bench's family.
impl Bench {
    /// Sends `packet` in by `from` and asserts that it leaves by `to` as `expected`: verdict, every byte, egress
    /// device, and that it was counted once, with its length, under this hook.
    #[track_caller]
    pub fn forwards(&mut self, from: Device, packet: &Packet, to: Device, expected: &Packet) {
        let out = self.passes_through(from, packet, to);
        assert_frame(&out, &self.family.packet(expected));
    }

    /// Sends `packet` in by `from` and asserts that it goes on the way it was going, as `expected`.
    #[track_caller]
    pub fn stays(&mut self, from: Device, packet: &Packet, expected: &Packet) {
        let (run, _) = self.sends(from, packet);
        assert_eq!(run.verdict, self.verdict_of(Verdict::Pass));
        assert_frame(&run.packet, &self.family.packet(expected));
    }

    /// Sends `packet` in by `from` and asserts that its sender gets `expected` for it, by the same device, and that
    /// `reason` is counted once and nothing else.
    #[track_caller]
    pub fn answers(&mut self, from: Device, packet: &Packet, reason: Reason, expected: &Packet) {
        let run = self.ends(from, &self.family.packet(packet).to_bytes(), reason);
        let wanted = match self.hook {
            Hook::Xdp => verdicts::XDP_TX,
            Hook::Tc | Hook::Egress => verdicts::TC_REDIRECT,
        };
        assert_eq!(run.verdict, wanted, "{}", reason.name());
        assert_frame(&run.packet, &self.family.packet(expected));
    }

    /// As [`Bench::forwards`] where the bytes are not known beforehand: returns them.
    #[track_caller]
    pub fn passes_through(&mut self, from: Device, packet: &Packet, to: Device) -> Vec<u8> {
        let (run, packet) = self.leaving(from, packet);
        if self.hook == Hook::Xdp {
            let tx = run.verdict == verdicts::XDP_TX;
            assert_eq!(tx, from == to, "back out by the same device");
        }
        let egress = self.egress(&packet);
        assert_eq!(egress, Some(self.index(to)), "egress device");
        run.packet
    }

    /// As [`Bench::passes_through`] for a packet whose flow does not know its egress device.
    #[track_caller]
    pub fn leaves(&mut self, from: Device, packet: &Packet) -> Vec<u8> {
        self.leaving(from, packet).0.packet
    }

    #[track_caller]
    fn leaving(&mut self, from: Device, packet: &Packet) -> (TestRun, Packet) {
        let (run, packet) = self.sends(from, packet);
        let verdicts = match self.hook {
            Hook::Xdp => [verdicts::XDP_TX, verdicts::XDP_REDIRECT],
            Hook::Tc | Hook::Egress => [verdicts::TC_REDIRECT; 2],
        };
        assert!(verdicts.contains(&run.verdict), "verdict {}", run.verdict);
        (run, packet)
    }

    #[track_caller]
    fn sends(&mut self, from: Device, packet: &Packet) -> (TestRun, Packet) {
        let packet = self.family.packet(packet);
        let mut wanted = self.counted();
        let run = self.run(from, &packet.to_bytes());
        let counted = self.counted();
        wanted.packets[usize::from(self.hook != Hook::Xdp)] += 1;
        wanted.bytes += ip_length(&packet);
        assert_eq!(counted, wanted, "counters of a forwarded packet");
        (run, packet)
    }

    /// Sends `packet` in by `from` and asserts that it is not forwarded for `reason`: verdict, not one byte
    /// changed, and this reason, once, the only thing counted.
    #[track_caller]
    pub fn refuses(&mut self, from: Device, packet: &Packet, reason: Reason) {
        self.refuses_frame(from, &self.family.packet(packet).to_bytes(), reason);
    }

    /// As [`Bench::refuses`], for what is no [`Packet`].
    #[track_caller]
    pub fn refuses_frame(&mut self, from: Device, frame: &[u8], reason: Reason) {
        let run = self.ends(from, frame, reason);
        let handed_off = self.hook == Hook::Xdp && reason.verdict() == Verdict::SlowPath;
        let mut bytes = Vec::new();
        if handed_off {
            // The test run gives the metadata out in front of the frame.
            bytes.extend(HANDOFF.to_ne_bytes());
        }
        bytes.extend(frame);
        assert_eq!(run.packet, bytes, "{} changed the packet", reason.name());
        let verdict = self.verdict_of(reason.verdict());
        assert_eq!(run.verdict, verdict, "{}", reason.name());
    }

    /// Asserts that `reason`, once, is all that is counted for a frame.
    #[track_caller]
    fn ends(&mut self, from: Device, frame: &[u8], reason: Reason) -> TestRun {
        let mut wanted = self.counted();
        let run = self.run(from, frame);
        *wanted.reasons.entry(reason.name()).or_default() += 1;
        assert_eq!(self.counted(), wanted, "counters of a refused packet");
        if reason.verdict() == Verdict::Drop {
            self.remembers(from, frame, reason);
        }
        run
    }

    /// Asserts that the last packet known to have ended for `reason` is this one.
    #[track_caller]
    fn remembers(&self, from: Device, frame: &[u8], reason: Reason) {
        let last = self.datapath.view().now().last_refused(reason);
        let mut last = last.expect("reading a map").into_iter();
        assert!(
            last.any(|last| self.is(&last, from, frame)),
            "{} does not remember its last packet",
            reason.name()
        );
    }

    /// Whether `last` is this frame.
    fn is(&self, last: &Refused, from: Device, frame: &[u8]) -> bool {
        let is_tagged = matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8]);
        let ip = &frame[if is_tagged { 18 } else { 14 }..];
        let is_ipv6 = ip[0] >> 4 == 6;
        let (protocol, addresses) = if is_ipv6 {
            (ip[6], &ip[8..40])
        } else {
            (ip[9], &ip[12..20])
        };
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let remembered = [octets(last.source), octets(last.destination)].concat();
        let header = if is_ipv6 {
            40
        } else {
            usize::from(ip[0] & 0xf) * 4
        };
        let ports = last.ports.map(|ports| ports.map(u16::to_be_bytes).concat());
        last.protocol == protocol
            && remembered == addresses
            && (is_tagged || last.device == self.index(from))
            && ports.is_none_or(|ports| ip.get(header..header + 4) == Some(ports.as_slice()))
    }

    fn verdict_of(&self, verdict: Verdict) -> u32 {
        match (self.hook, verdict) {
            (Hook::Xdp, Verdict::Pass | Verdict::SlowPath) => verdicts::XDP_PASS,
            (Hook::Xdp, Verdict::Drop) => verdicts::XDP_DROP,
            (_, Verdict::Pass) => verdicts::TC_UNSPEC,
            (_, _) => verdicts::TC_SHOT,
        }
    }
}

/// Return values of programs, from include/uapi/linux/{bpf,pkt_cls}.h.
mod verdicts {
    pub const XDP_DROP: u32 = 1;
    pub const XDP_PASS: u32 = 2;
    pub const XDP_TX: u32 = 3;
    pub const XDP_REDIRECT: u32 = 4;
    /// TC_ACT_UNSPEC is -1.
    pub const TC_UNSPEC: u32 = u32::MAX;
    pub const TC_SHOT: u32 = 2;
    pub const TC_REDIRECT: u32 = 7;
}

/// Bytes of a packet from its IP header on.
fn ip_length(packet: &Packet) -> u64 {
    let bytes = packet.to_bytes().len() - packet.network_offset() - packet.trailer.len();
    bytes.try_into().expect("a packet")
}
