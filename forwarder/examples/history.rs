//! How long it takes to keep flows and to find one again:
//!
//!     cargo run --release -p forwarder --example history -- 1000000 /var/tmp/history.redb
//!
//! The file must not exist. A thousand flows share each translated port, over thirty days.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use forwarder::{
    control::FlowProtocol,
    events::{Cause, Closed, Counts, FlowEvent, Kind, time::Moment},
    history::{Store, WhoQuery},
};
use jiff::Timestamp;

/// Events that are written together: what the daemon has in a busy second.
const TOGETHER: usize = 10_000;
const DAY: i64 = 86_400;
/// 2026-11-01.
const FIRST_DAY: i64 = 20_758;
const DAYS: usize = 30;
const EACH_PORT: usize = 1000;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let count: usize = args.next().context("how many flows?")?.parse()?;
    let path = args.next().context("which file?")?;
    let path = Path::new(&path);
    ensure!(!path.exists(), "{} exists", path.display());

    let began = Instant::now();
    let store = Store::open(path)?;
    let mut batch = Vec::new();
    for number in 0..count {
        batch.push(flow(number, count)?);
        if batch.len() == TOGETHER || number + 1 == count {
            store.write(&batch, 1, day(number, count))?;
            batch.clear();
        }
    }
    let took = began.elapsed();
    let rate = count as f64 / took.as_secs_f64();
    let bytes = path.metadata()?.len() / count as u64;
    println!("kept {count} flows in {took:.1?}: {rate:.0} a second, {bytes} bytes each");
    drop(store);

    let began = Instant::now();
    let store = Store::open(path)?;
    println!("opened in {:.1?}", began.elapsed());
    let one = flow(count / 2, count)?;
    for (what, at) in [
        ("all of a port's flows", None),
        ("one moment", Some(one.start)),
    ] {
        let query = WhoQuery {
            translated: one.translated,
            protocol: None,
            at: at.map(|from| Moment { from, to: from }),
        };
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..11 {
            let began = Instant::now();
            found = store.find(&query)?.records.len();
            times.push(began.elapsed());
        }
        let first = times[0];
        times.sort();
        let median: Duration = times[times.len() / 2];
        println!("{what}: {found} found, the first time in {first:.1?}, median {median:.1?}");
    }
    Ok(())
}

fn day(number: usize, count: usize) -> i64 {
    FIRST_DAY + (number * DAYS / count) as i64
}

/// One of so many flows, each of which begins after the one before.
fn flow(number: usize, count: usize) -> anyhow::Result<FlowEvent> {
    let second = (number as i128 * (DAYS as i128 * i128::from(DAY)) / count as i128) as i64;
    let start = Timestamp::from_second(FIRST_DAY * DAY + second)?;
    let ports = count.div_ceil(EACH_PORT).clamp(1, 64_000);
    let port = 1024 + (number % ports) as u16;
    let client = Ipv4Addr::from(0x0a00_0000 + (number % 60_000) as u32);
    let counts = Counts {
        packets: 20,
        bytes: 15_000 + number as u64 % 1000,
    };
    Ok(FlowEvent {
        event: Kind::Closed,
        time: start,
        rule: "lan-mail".to_owned(),
        protocol: FlowProtocol::Tcp,
        state: "TIME_WAIT".to_owned(),
        client: SocketAddr::from((client, 30_000 + (number % 30_000) as u16)),
        listener: SocketAddr::from(([192, 0, 2, 25], 25)),
        translated: SocketAddr::from(([203, 0, 113, 5], port)),
        backend: SocketAddr::from(([192, 0, 2, 25], 25)),
        start,
        closed: Some(Closed {
            end: start.checked_add(Duration::from_secs(10))?,
            cause: Cause::Finished,
            original: counts,
            reply: counts,
        }),
        created: number as u32,
    })
}
