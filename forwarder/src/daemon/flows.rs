//! Picking flows for a listing, so that a million of them need not travel to whoever wants ten.

use std::{cmp::Reverse, collections::BTreeSet, net::SocketAddr, ops::ControlFlow};

use super::{published::Setup, report::protocol, running::Running};
use crate::{
    control::{FlowOrder, FlowProtocol, FlowQuery, server::Sink},
    datapath::{Clock, Flow, Identity, Key, ends},
};

/// Flows that go to the client at once.
const CHUNK: usize = 1000;

impl Running {
    pub(super) fn list_flows(&self, query: &FlowQuery, sink: Sink<'_>) -> anyhow::Result<()> {
        let setup = self.published.setup()?;
        let clock = self.published.figures().now();
        let filter = Filter::new(query, &setup)?;
        let mut picked = Picked {
            query,
            clock,
            flows: Vec::new(),
            left: query.limit.unwrap_or(usize::MAX),
        };
        let report = |flows: &mut Vec<Flow>| {
            let flows = flows.drain(..);
            flows
                .map(|flow| setup.flow(&flow, &clock))
                .collect::<Vec<_>>()
        };
        let mut gone = false;
        self.view.now().each_flow(
            |identity| filter.takes(identity),
            |flow| {
                if !filter.takes_state(&flow) {
                    return ControlFlow::Continue(());
                }
                picked.add(flow);
                if picked.sorts() {
                    return ControlFlow::Continue(());
                }
                if picked.flows.len() >= CHUNK && sink(report(&mut picked.flows)).is_break() {
                    gone = true;
                }
                if gone || picked.left == 0 {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            },
        )?;
        picked.sort();
        for chunk in picked.flows.chunks(CHUNK) {
            if gone || sink(report(&mut chunk.to_vec())).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The flows picked so far.
struct Picked<'a> {
    query: &'a FlowQuery,
    clock: Clock,
    flows: Vec<Flow>,
    /// How many more are wanted.
    left: usize,
}

impl Picked<'_> {
    fn sorts(&self) -> bool {
        self.query.sort.is_some()
    }

    fn add(&mut self, flow: Flow) {
        self.flows.push(flow);
        if !self.sorts() {
            self.left -= 1;
        } else if self.flows.len() / 2 > self.left.max(CHUNK) {
            self.sort();
        }
    }

    /// The largest first, and no more than are wanted.
    fn sort(&mut self) {
        let Some(order) = self.query.sort else {
            return;
        };
        let clock = self.clock;
        self.flows.sort_by_cached_key(|flow| {
            (Reverse(measure(flow, order, &clock)), ends(&flow.original))
        });
        self.flows.truncate(self.left);
    }
}

/// What flows are sorted by.
fn measure(flow: &Flow, order: FlowOrder, clock: &Clock) -> u64 {
    let (original, reply) = (&flow.original_entry, &flow.reply_entry);
    match order {
        FlowOrder::Bytes => original.bytes + reply.bytes,
        FlowOrder::Packets => original.packets() + reply.packets(),
        FlowOrder::Age => clock.since_created(original.created).as_millis() as u64,
        FlowOrder::Idle => flow.idle(clock).as_millis() as u64,
    }
}

/// A query in the terms of the tables.
struct Filter<'a> {
    query: &'a FlowQuery,
    /// Slots of the rule that is asked for; `None`: any.
    slots: Option<BTreeSet<u32>>,
}

impl<'a> Filter<'a> {
    fn new(query: &'a FlowQuery, setup: &Setup) -> anyhow::Result<Self> {
        let slots = query.rule.as_ref().map(|wanted| {
            let named = setup.names.iter().filter(|(_, name)| *name == wanted);
            named.map(|(slot, _)| *slot).collect::<BTreeSet<_>>()
        });
        if let (Some(rule), Some(slots)) = (&query.rule, &slots) {
            anyhow::ensure!(
                !slots.is_empty(),
                "no rule is called `{rule}`: `forwarder rules` lists them"
            );
        }
        Ok(Self { query, slots })
    }

    fn takes(&self, flow: &Identity) -> bool {
        let query = self.query;
        let protocol = match query.protocol {
            Some(FlowProtocol::Tcp) => "tcp",
            Some(FlowProtocol::Udp) => "udp",
            Some(FlowProtocol::Icmp) => "icmp",
            None => protocol_of(flow),
        };
        let all = all_ends(&flow.original, &flow.reply);
        let within = |net: ipnet::IpNet| all.iter().any(|end| net.contains(&end.ip()));
        self.slots
            .as_ref()
            .is_none_or(|slots| slots.contains(&flow.rule))
            && protocol == protocol_of(flow)
            && query
                .port
                .is_none_or(|port| all.iter().any(|end| end.port() == port))
            && query.address.is_none_or(within)
    }

    fn takes_state(&self, flow: &Flow) -> bool {
        let state = self.query.state.as_deref();
        state.is_none_or(|state| state.eq_ignore_ascii_case(flow.state().name()))
    }
}

fn protocol_of(flow: &Identity) -> &'static str {
    protocol(flow.original.protocol)
}

/// Both ends before and after translation.
fn all_ends(original: &Key, reply: &Key) -> [SocketAddr; 4] {
    let ((client, listener), (backend, translated)) = (ends(original), ends(reply));
    [client, listener, backend, translated]
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rstest::rstest;

    use super::*;

    fn identity() -> Identity {
        let key = |source: [u8; 4], destination: [u8; 4], ports: [u16; 2]| {
            let [from, to] = ports.map(u16::to_be);
            Key::new(IpAddr::from(source), IpAddr::from(destination), from, to, 6)
        };
        Identity {
            original: key([198, 51, 100, 7], [203, 0, 113, 5], [40_000, 110]),
            reply: key([195, 228, 245, 1], [203, 0, 113, 6], [1110, 50_000]),
            rule: 3,
        }
    }

    fn any() -> FlowQuery {
        FlowQuery::default()
    }

    #[rstest]
    #[case::everything(any(), true)]
    #[case::client(FlowQuery { address: Some("198.51.100.0/24".parse().unwrap()), ..any() }, true)]
    #[case::translated(FlowQuery { address: Some("203.0.113.6/32".parse().unwrap()), ..any() }, true)]
    #[case::nobody(FlowQuery { address: Some("192.0.2.0/24".parse().unwrap()), ..any() }, false)]
    #[case::other_family(FlowQuery { address: Some("::/0".parse().unwrap()), ..any() }, false)]
    #[case::listener_port(FlowQuery { port: Some(110), ..any() }, true)]
    #[case::backend_port(FlowQuery { port: Some(1110), ..any() }, true)]
    #[case::no_port(FlowQuery { port: Some(111), ..any() }, false)]
    #[case::tcp(FlowQuery { protocol: Some(FlowProtocol::Tcp), ..any() }, true)]
    #[case::udp(FlowQuery { protocol: Some(FlowProtocol::Udp), ..any() }, false)]
    #[case::both(FlowQuery { port: Some(110), protocol: Some(FlowProtocol::Udp), ..any() }, false)]
    fn a_filter_looks_at_both_directions(#[case] query: FlowQuery, #[case] taken: bool) {
        let filter = Filter {
            query: &query,
            slots: None,
        };
        assert_eq!(filter.takes(&identity()), taken);
    }

    #[rstest]
    #[case(3, true)]
    #[case(4, false)]
    fn a_rule_is_its_slot(#[case] slot: u32, #[case] taken: bool) {
        let filter = Filter {
            query: &any(),
            slots: Some(BTreeSet::from([slot])),
        };
        assert_eq!(filter.takes(&identity()), taken);
    }
}
