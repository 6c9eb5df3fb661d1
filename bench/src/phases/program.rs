//! What the forwarder's XDP program itself costs: the very one that is at work in a rig, with the flows that are open
//! there, called by a probe that makes the packets.

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};

use super::datagrams::{FEW, PORTS};
use crate::gateway::{Candidate, Order, Protocol};
use crate::measure::Measure;
use crate::napi;
use crate::net::Net;
use crate::plan::{Kind, Traffic};
use crate::session::{Contender, Session};
use nix::unistd::Pid;

/// Packets of one look: a tenth of a second of packets that are far away in memory.
const PACKETS: u32 = 300_000;

/// `XDP_PASS` and `XDP_REDIRECT` in include/uapi/linux/bpf.h.
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// Nothing but this, in rigs of the forwarder alone.
pub(super) fn run(session: &mut Session) -> Result<()> {
    let axis: &[u32] = if session.quick {
        &[1, FEW, 100_000]
    } else {
        &[1, FEW, 100_000, 1_000_000]
    };
    let mut rig = |v6, axis: &[u32]| -> Result<Vec<Contender>> {
        let flows = axis.iter().copied().max().unwrap_or(FEW);
        let order = Order {
            protocol: Protocol::Udp,
            v6,
            rules: 1,
            ports: PORTS,
            flows: flows + FEW,
        };
        let mut contenders = session.contenders(&order, |it| it == Candidate::Xdp)?;
        for contender in &mut contenders {
            contender.open(flows, Kind::Udp)?;
        }
        Ok(contenders)
    };
    let (mut v4, mut v6) = (rig(false, axis)?, rig(true, &[FEW])?);
    for _ in 0..session.rounds {
        round(session, &mut v4, axis);
        round(session, &mut v6, &[FEW]);
    }
    Ok(())
}

/// Each number of flows, and packets that no rule is about.
pub(super) fn round(session: &mut Session, contenders: &mut [Contender], axis: &[u32]) {
    for contender in contenders {
        if contender.candidate != Candidate::Xdp {
            continue;
        }
        for &count in axis {
            let case = match contender.order.v6 {
                true => format!("{}, IPv6", super::flows(count)),
                false => super::flows(count),
            };
            let cost = cost(session, contender, &contender.traffic(count), REDIRECT);
            session.record(Measure::Program, &case, contender.candidate, cost);
        }
        if contender.order.v6 {
            continue;
        }
        let walked = attached(contender).and_then(|program| {
            let count = program.verified_instruction_count();
            Ok(f64::from(count.context("Linux tells since 5.16")?))
        });
        session.record(
            Measure::Verified,
            "forwarder_xdp",
            contender.candidate,
            walked,
        );
        let foreign = Traffic {
            foreign: true,
            ..contender.traffic(1000)
        };
        let cost = cost(session, contender, &foreign, PASS);
        session.record(Measure::Program, "not ours", contender.candidate, cost);
    }
}

/// Nanoseconds for each packet.
fn cost(
    session: &Session,
    contender: &mut Contender,
    traffic: &Traffic,
    wanted: u32,
) -> Result<f64> {
    let target = attached(contender)?.fd()?;
    let cpu = session.cpus.gateway;
    let (programs, hosts) = (&mut contender.rig.programs, &contender.rig.hosts);
    programs.set_plan(traffic.plan(0))?;
    hosts.gateway.run(|| {
        napi::pin(Pid::from_raw(0), cpu)?;
        let ingress = nix::net::if_::if_nametoindex(Net::IN)?;
        let mut look = |target| programs.probe(target, traffic.length(), ingress, PACKETS);
        // Each flow has been met before, as in a flood that has lasted for a while: a flow gets a place in the cache
        // that another one has let go by one of eight packets.
        let packets = u64::from(traffic.flows) * 16;
        for _ in 0..packets.div_ceil(u64::from(PACKETS)).clamp(2, 16) {
            look(Some(&target))?;
        }
        let (empty, _) = look(None)?;
        let (full, verdict) = look(Some(&target))?;
        ensure!(verdict == wanted, "verdict {verdict} instead of {wanted}");
        Ok(full - empty)
    })?
}

/// The XDP program on the device that packets come in by.
fn attached(contender: &Contender) -> Result<ProgramInfo> {
    let mut ip = contender.rig.hosts.gateway.command("ip");
    let output = ip.args(["-json", "link", "show", Net::IN]).output()?;
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let id = listing[0]["xdp"]["prog"]["id"].as_u64();
    let id = u32::try_from(id.context("no XDP program there")?)?;
    for program in loaded_programs() {
        let program = program?;
        if program.id() == id {
            return Ok(program);
        }
    }
    anyhow::bail!("program {id} has gone")
}
