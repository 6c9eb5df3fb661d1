//! Fragments that are impossible, or too many.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::Packet;

use super::bench::Hook;
use super::family::Family;
use super::fragments::{Cut, forwards, long};
use super::topology::Device;

#[rstest]
fn impossible_fragments_are_dropped(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, cut) = Cut::new(hook, family);
    let part = |protocol, bytes: usize, offset, more| {
        let packet = Packet::other("198.51.100.7", "203.0.113.5", protocol);
        let packet = packet.with_payload(&vec![0x55; bytes]);
        let packet = packet.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
        family.packet(&packet).with_fragment(offset, more)
    };
    for (packet, reason) in [
        // Beyond 65535 bytes: the ping of death.
        (part(17, 64, 8190, true), Reason::FragmentOversized),
        (part(17, 16, 8191, false), Reason::FragmentOversized),
        // No multiple of eight, nothing at all, and no ports.
        (part(17, 15, 4, true), Reason::FragmentTiny),
        (part(17, 0, 4, false), Reason::FragmentTiny),
        (part(6, 8, 0, true), Reason::FragmentTiny),
        (part(6, 16, 0, true), Reason::FragmentTiny),
    ] {
        bench.refuses(Device::Wan, &packet, reason);
    }
    for pair in cut.request(&long(100), 1, 40) {
        forwards(&mut bench, Device::Wan, &pair);
    }
}

/// In order there may be any number; what waits is bounded.
#[rstest]
fn sixty_fragments(#[values(Family::V4, Family::V6)] family: Family) {
    let (mut bench, cut) = Cut::new(Hook::Tc, family);
    let pairs = cut.request(&long(60 * 40 - 8), 1, 40);
    assert_eq!(pairs.len(), 60);
    for pair in &pairs {
        forwards(&mut bench, Device::Wan, pair);
    }
    let pairs = cut.request(&long(60 * 40 - 8), 2, 40);
    for (index, (sent, _)) in pairs.iter().enumerate().skip(1) {
        let reason = if index <= 52 {
            Reason::FragmentHeld
        } else {
            Reason::FragmentLimit
        };
        bench.refuses(Device::Wan, sent, reason);
    }
    forwards(&mut bench, Device::Wan, &pairs[0]);
    // Too large to be put aside.
    let pairs = cut.request(&long(4000), 3, 2400);
    bench.refuses(
        Device::Wan,
        &cut.request(&long(6000), 4, 2400)[1].0,
        Reason::FragmentLimit,
    );
    bench.refuses(Device::Wan, &pairs[1].0, Reason::FragmentHeld);
}
