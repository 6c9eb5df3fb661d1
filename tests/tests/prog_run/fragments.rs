//! Fragments: translated as they are, in whatever order they come.

use std::sync::atomic::{AtomicU32, Ordering};

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Checksum, Extension, Packet, assert_frame};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, SERVER, tcp, udp};
use super::translate::RULE;

/// A connection whose packets come in fragments.
pub struct Cut {
    /// Whole.
    pub connection: Connection,
    /// In which it is.
    pub family: Family,
    /// Datapaths are handed on from test to test, and remember datagrams: each test has identifications of its own.
    base: u32,
}

impl Cut {
    /// A gateway that masquerades, and the connection.
    pub fn new(hook: Hook, family: Family) -> (Bench, Self) {
        let rule = format!("{RULE}source = \"masquerade\"\n");
        let connection = Connection::new(CLIENT, LISTENER, "10.0.0.1:25000", SERVER);
        static NEXT: AtomicU32 = AtomicU32::new(0x4000);
        let cut = Self {
            connection,
            family,
            base: NEXT.fetch_add(32, Ordering::Relaxed),
        };
        (Bench::new((hook, family), &rule), cut)
    }

    /// The fragments of `packet` as they come and as they leave.
    pub fn request(&self, packet: &Packet, id: u32, size: usize) -> Vec<(Packet, Packet)> {
        let sent = self.connection.request(packet.clone());
        let expected = self.connection.forwarded(packet.clone());
        self.pairs(&sent, &expected, id, size)
    }

    fn reply(&self, packet: &Packet, id: u32, size: usize) -> Vec<(Packet, Packet)> {
        let sent = self.connection.reply(packet.clone());
        let expected = self.connection.returned(packet.clone());
        self.pairs(&sent, &expected, id, size)
    }

    fn pairs(
        &self,
        sent: &Packet,
        expected: &Packet,
        id: u32,
        size: usize,
    ) -> Vec<(Packet, Packet)> {
        let cut = |packet| self.family.packet(packet).fragments(self.base + id, size);
        cut(sent).into_iter().zip(cut(expected)).collect()
    }
}

/// `length` bytes, none like the one before it.
pub fn long(length: usize) -> Packet {
    let payload: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    udp().with_payload(&payload)
}

/// Asserts how a fragment leaves.
#[track_caller]
pub fn forwards(bench: &mut Bench, from: Device, (sent, expected): &(Packet, Packet)) {
    let out = bench.leaves(from, sent);
    assert_frame(&out, expected);
}

#[rstest]
#[case::two(100, 64)]
#[case::ports_only(100, 8)]
#[case::large(2800, 1400)]
fn the_first_before_the_rest(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] length: usize,
    #[case] size: usize,
) {
    let (mut bench, cut) = Cut::new(hook, family);
    for id in [1, 2] {
        for pair in cut.request(&long(length), id, size) {
            forwards(&mut bench, Device::Wan, &pair);
        }
        for pair in cut.reply(&long(length), id + 10, size) {
            forwards(&mut bench, Device::Lan, &pair);
        }
    }
    // Behind the first the order does not matter.
    let pairs = cut.request(&long(length), 20, size);
    forwards(&mut bench, Device::Wan, &pairs[0]);
    for pair in pairs[1..].iter().rev() {
        forwards(&mut bench, Device::Wan, pair);
    }
    bench.holds(&[&cut.connection.described("STREAM")]);
}

/// Destination options may stand behind the fragment header, in the first fragment alone: the others announce
/// options and have none.
#[rstest]
fn options_within_the_first(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let (mut bench, cut) = Cut::new(hook, Family::V6);
    let with = |packet| {
        cut.family
            .packet(&packet)
            .with_extension(Extension::destination())
    };
    for (device, sent, expected) in [
        (
            Device::Wan,
            cut.connection.request(long(100)),
            cut.connection.forwarded(long(100)),
        ),
        (
            Device::Lan,
            cut.connection.reply(long(100)),
            cut.connection.returned(long(100)),
        ),
    ] {
        for pair in cut.pairs(&with(sent), &with(expected), 1, 40) {
            forwards(&mut bench, device, &pair);
        }
    }
}

/// TCP is cut as well where a sender lets it be.
#[rstest]
fn segments(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, cut) = Cut::new(hook, family);
    cut.connection.handshake(&mut bench);
    let data = tcp(tests::packet::tcp_flags::ACK).with_payload(&[7; 200]);
    for pair in cut.request(&data, 5, 48) {
        forwards(&mut bench, Device::Wan, &pair);
    }
}

#[rstest]
fn an_absent_checksum_stays_absent(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let (mut bench, cut) = Cut::new(hook, Family::V4);
    let packet = long(100).with_checksum(Checksum::Absent);
    for pair in cut.request(&packet, 3, 40) {
        forwards(&mut bench, Device::Wan, &pair);
    }
}

/// Before the first one the rest waits, on the slow path; the first one is what it was when they have gone on.
#[rstest]
fn the_rest_before_the_first(#[values(Family::V4, Family::V6)] family: Family) {
    let (mut bench, cut) = Cut::new(Hook::Tc, family);
    let pairs = cut.request(&long(100), 1, 40);
    for (sent, _) in &pairs[1..] {
        bench.refuses(Device::Wan, sent, Reason::FragmentHeld);
    }
    bench.holds(&[]);
    // Those that were held come in once more by the device itself, where no program is in these tests.
    forwards(&mut bench, Device::Wan, &pairs[0]);
    // Had they been sent on, they would overlap now.
    for pair in &pairs[1..] {
        forwards(&mut bench, Device::Wan, pair);
    }
}

/// XDP cannot hold anything: what is early, and the first one that others wait for, is the slow path's.
#[rstest]
fn the_fast_path_hands_over_what_is_early(#[values(Family::V4, Family::V6)] family: Family) {
    let (mut bench, cut) = Cut::new(Hook::Xdp, family);
    let pairs = cut.request(&long(100), 1, 40);
    bench.refuses(Device::Wan, &pairs[1].0, Reason::FragmentEarly);
    bench.hook = Hook::Tc;
    bench.refuses(Device::Wan, &pairs[1].0, Reason::FragmentHeld);
    bench.hook = Hook::Xdp;
    bench.refuses(Device::Wan, &pairs[0].0, Reason::FragmentEarly);
    bench.hook = Hook::Tc;
    forwards(&mut bench, Device::Wan, &pairs[0]);
    bench.hook = Hook::Xdp;
    forwards(&mut bench, Device::Wan, &pairs[2]);
}

#[rstest]
fn overlaps_are_dropped(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, cut) = Cut::new(hook, family);
    let whole = family.packet(&cut.connection.request(long(152)));
    let pairs = cut.request(&long(152), 1, 40);
    forwards(&mut bench, Device::Wan, &pairs[0]);
    forwards(&mut bench, Device::Wan, &pairs[1]);
    // A repetition ends alone.
    bench.refuses(Device::Wan, &pairs[1].0, Reason::FragmentOverlap);
    bench.refuses(Device::Wan, &pairs[0].0, Reason::FragmentOverlap);
    forwards(&mut bench, Device::Wan, &pairs[2]);
    // Any other spoils the datagram, and no other.
    let overlap = whole.fragment(cut.base + 1, 96..136);
    bench.refuses(Device::Wan, &overlap, Reason::FragmentOverlap);
    bench.refuses(Device::Wan, &pairs[3].0, Reason::FragmentOverlap);
    for pair in cut.request(&long(152), 2, 40) {
        forwards(&mut bench, Device::Wan, &pair);
    }
}

/// Nobody's fragments go to the kernel, and leave nothing behind for the next ones.
#[rstest]
fn fragments_without_rule(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, cut) = Cut::new(hook, family);
    let foreign = cut
        .connection
        .request(long(100))
        .with_destination("203.0.113.5:111");
    let foreign = family.packet(&foreign).fragments(cut.base + 1, 40);
    let pairs = cut.request(&long(100), 2, 40);
    bench.refuses(Device::Wan, &foreign[0], Reason::NoRule);
    forwards(&mut bench, Device::Wan, &pairs[0]);
    for (rest, pair) in foreign[1..].iter().zip(&pairs[1..]) {
        bench.refuses(Device::Wan, rest, Reason::NoRule);
        forwards(&mut bench, Device::Wan, pair);
    }
    // Overlaps of theirs are the kernel's to judge.
    bench.refuses(Device::Wan, &foreign[1], Reason::NoRule);
    bench.holds(&[&cut.connection.described("UNREPLIED")]);
}

/// A first fragment that opens nothing is forgotten: the next packet is not taken for the rest of its datagram.
#[rstest]
fn a_refused_first_fragment_is_forgotten(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, cut) = Cut::new(hook, family);
    bench.reload(&format!(
        "{RULE}source = \"masquerade\"\ndeny = [\"198.51.100.8\"]\n"
    ));
    let denied = cut
        .connection
        .request(long(100))
        .with_source("198.51.100.8:1");
    let denied = family.packet(&denied).fragments(cut.base + 1, 40);
    for id in [2, 3] {
        bench.refuses(Device::Wan, &denied[0], Reason::ClientRefused);
        for pair in cut.request(&long(100), id, 40) {
            forwards(&mut bench, Device::Wan, &pair);
        }
    }
}
