//! tmp
use std::time::Duration;
use bench::{gateway::*, plan::Traffic, rig::*};
use tests::netns::Prefix;
fn main() -> anyhow::Result<()> {
    let cpus = Cpus { generator: 0, gateway: 1 };
    for c in Candidate::ALL {
        let prefix = Prefix::unique();
        let mut rig = Rig::build(&prefix, "a", cpus)?;
        let order = Order { protocol: Protocol::Udp, v6: false, rules: 1, ports: 1024, flows: 110_000 };
        let t = std::time::Instant::now();
        let gw = match Gateway::start(c, &order, &mut rig, &prefix) { Ok(g) => g, Err(e) => { println!("{c}: {e:#}"); continue } };
        println!("{c}: started in {:?}", t.elapsed());
        rig.settle()?;
        let mut traffic = Traffic::flood(100_000, 1024);
        traffic.foreign = !c.translates();
        let (n, d) = rig.complete(&traffic.once(), c.destination(), Duration::from_secs(20))?;
        println!("{c}: {n} in {d:?}; progress {:?}", rig.programs.progress()?);
        for flows in [1, 1000, 100_000] {
            let mut traffic = Traffic { flows, ..traffic };
            traffic.foreign = !c.translates();
            let p = rig.measure(&traffic, c.destination(), Duration::from_millis(300))?;
            println!("{c} {flows}: {:.0} pps, {:.0} ns cpu, sent {:.0}", p.rate(), p.cost(), p.sent as f64 / p.time.as_secs_f64());
        }
        drop(gw);
    }
    Ok(())
}
