//! What packets cost: instructions, counted by a machine that runs the same programs beside the kernel.

mod image;
mod object;
mod twin;

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, udp};
use super::translate::RULE;

#[test]
fn trial() {
    for hook in [Hook::Xdp, Hook::Tc] {
        for family in [Family::V4, Family::V6] {
            let mut bench = Bench::new((hook, family), RULE);
            let connection = Connection::default();
            for _ in 0..3 {
                let frame = family.packet(&connection.request(udp())).to_bytes();
                let outcome = bench.weigh(Device::Wan, &frame).unwrap();
                println!(
                    "{} {} {:?}",
                    outcome.instructions, outcome.calls, outcome.way
                );
            }
        }
    }
}
