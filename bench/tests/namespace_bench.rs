//! That every candidate's packets arrive where they should, in as many as were sent. Nothing here looks at the clock.

use std::time::Duration;

use anyhow::Result;
use bench::gateway::{Candidate, Order, Protocol};
use bench::phases::segments;
use bench::plan::{Kind, Traffic};
use bench::results::{Machine, Results};
use bench::rig::{Cpus, Wiring};
use bench::session::Session;
use rstest::rstest;
use tests::netns::{Prefix, remove_named};

const FLOWS: u32 = 200;

/// How long traffic may take to go through, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Connections that are played from the first SYN to the last acknowledgment, both ways through the gateway.
#[test]
fn every_connection_is_played_to_its_end() -> Result<()> {
    let Some((mut session, order)) = connections()? else {
        return Ok(());
    };
    let both_ways = |it| it != Candidate::Ceiling;
    let contenders = session.wired(&order, Wiring::Played, both_ways)?;
    assert!(contenders.len() >= 7, "{:?}", session.results.absent);
    for mut contender in contenders {
        let before = contender.rig.programs.counted()?;
        contender.play(FLOWS)?;
        let after = contender.rig.programs.counted()?;
        let (over, broken) = (after.packets - before.packets, after.others - before.others);
        let by = contender.candidate;
        assert_eq!((over, broken), (u64::from(FLOWS), 0), "by {by}");
    }
    remove_named(&session.prefix);
    Ok(())
}

/// Segments in connections that are open, of which none is lost and none left untranslated, whatever a stack has put
/// together on the way.
#[test]
fn every_segment_arrives() -> Result<()> {
    const SEGMENTS: u64 = 10_000;
    let Some((mut session, order)) = connections()? else {
        return Ok(());
    };
    let contenders = session.wired(&order, Wiring::Played, |it| it != Candidate::Auto)?;
    for mut contender in contenders {
        segments::make_ready(&mut contender)?;
        let traffic = Traffic {
            limit: SEGMENTS,
            ..segments::traffic(&contender, 16, 16)
        };
        let before = contender.rig.programs.counted()?;
        let destination = contender.destination(&traffic);
        contender.rig.complete(&traffic, destination, PATIENCE)?;
        let after = contender.rig.programs.counted()?;
        let by = contender.candidate;
        assert_eq!(after.others, before.others, "by {by}");
        assert_eq!(after.packets - before.packets, SEGMENTS, "by {by}");
        assert_eq!(after.bytes - before.bytes, SEGMENTS * 1514, "by {by}");
    }
    remove_named(&session.prefix);
    Ok(())
}

/// `None` where there is no room for them.
fn connections() -> Result<Option<(Session, Order)>> {
    if std::thread::available_parallelism()?.get() < 2 {
        eprintln!("skipped: generator and gateway need a CPU each");
        return Ok(None);
    }
    let order = Order {
        protocol: Protocol::Tcp,
        v6: false,
        rules: 1,
        ports: 64,
        flows: FLOWS,
    };
    Ok(Some((session(), order)))
}
