//! That every candidate's packets arrive where they should, in as many as were sent. Nothing here looks at the clock.

use anyhow::Result;
use bench::gateway::{Candidate, Order, Protocol};
use bench::plan::Kind;
use bench::results::{Machine, Results};
use bench::rig::Cpus;
use bench::session::Session;
use rstest::rstest;
use tests::netns::{Prefix, remove_named};

const FLOWS: u32 = 200;

fn session() -> Session {
    let cpus = Cpus {
        generator: 0,
        gateway: 1,
    };
    let results = Results::new(Machine::default(), 1, true);
    Session::new(Prefix::unique(), cpus, Candidate::ALL.to_vec(), results)
}

#[rstest]
#[case::udp(Protocol::Udp, Kind::Udp, false, 1)]
#[case::udp_many_rules(Protocol::Udp, Kind::Udp, false, 50)]
#[case::udp_v6(Protocol::Udp, Kind::Udp, true, 1)]
#[case::syn(Protocol::Tcp, Kind::Syn, false, 1)]
fn every_flow_opens(
    #[case] protocol: Protocol,
    #[case] kind: Kind,
    #[case] v6: bool,
    #[case] rules: u32,
) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        eprintln!("skipped: generator and gateway need a CPU each");
        return Ok(());
    }
    let mut session = session();
    let order = Order {
        protocol,
        v6,
        rules,
        ports: 64,
        flows: FLOWS,
    };
    let contenders = session.contenders(&order, |_| true)?;
    assert!(contenders.len() >= 5, "{:?}", session.results.absent);
    for mut contender in contenders {
        let before = contender.rig.programs.counted()?;
        contender.open(FLOWS, kind)?;
        let after = contender.rig.programs.counted()?;
        let arrived = after.packets - before.packets;
        assert_eq!(arrived, u64::from(FLOWS), "by {}", contender.candidate);
    }
    remove_named(&session.prefix);
    Ok(())
}
