//! A generator, a gateway and a sink, each in a namespace of its own.

use anyhow::Result;
use tests::netns::{End, Namespace, Prefix, Wire, mac, veth};

use crate::net::{Net, Pair};

/// The three hosts.
#[derive(Debug)]
pub struct Hosts {
    /// Where packets come from.
    pub generator: Namespace,
    /// What is measured.
    pub gateway: Namespace,
    /// Where they end.
    pub sink: Namespace,
}

impl Hosts {
    /// Makes them and connects them, by a cable to the generator and one to the sink. Every neighbour is known and every route there, for no candidate needs to ask.
    ///
    /// # Errors
    /// If the kernel or iproute2 refuses.
    pub fn build(prefix: &Prefix, name: &str, [inside, outside]: [Wire; 2]) -> Result<Self> {
        let hosts = Self {
            generator: Namespace::create(prefix, &format!("{name}-gen"))?,
            gateway: Namespace::create(prefix, &format!("{name}-gw"))?,
            sink: Namespace::create(prefix, &format!("{name}-sink"))?,
        };
        let [gen4, gen6] = both(Net::GENERATOR);
        let [in4, in6] = both(Net::LISTENER);
        let [out4, out6] = both(Net::GATEWAY);
        let [sink4, sink6] = both(Net::BACKEND);
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let addresses = [&in4, &in6].map(String::as_str);
        let near = end(&hosts.gateway, Net::IN, &addresses);
        let addresses = [&gen4, &gen6].map(String::as_str);
        let far = end(&hosts.generator, Net::GENERATOR_DEVICE, &addresses);
        veth([near, far], [&mac(1, 1), &mac(1, 2)], inside)?;
        let addresses = [&out4, &out6].map(String::as_str);
        let near = end(&hosts.gateway, Net::OUT, &addresses);
        let addresses = [&sink4, &sink6].map(String::as_str);
        let far = end(&hosts.sink, Net::SINK_DEVICE, &addresses);
        veth([near, far], [&mac(2, 1), &mac(2, 2)], outside)?;
        hosts.introduce()?;
        hosts.gateway.forward(true)?;
        Ok(hosts)
    }

    fn introduce(&self) -> Result<()> {
        let neighbour = |pair: Pair, device: &str, mac: &str| -> String {
            let line = |address: &dyn std::fmt::Display| {
                format!("neigh replace {address} lladdr {mac} dev {device} nud permanent\n")
            };
            line(&pair.0) + &line(&pair.1)
        };
        let route = |to: [&str; 2], by: Pair| {
            format!(
                "route add {} via {}\nroute add {} via {}\n",
                to[0], by.0, to[1], by.1
            )
        };
        self.gateway.ip(&[
            neighbour(Net::GENERATOR, Net::IN, &mac(1, 2)),
            neighbour(Net::BACKEND, Net::OUT, &mac(2, 2)),
            route(["10.0.0.0/8", "2001:db8:a::/48"], Net::GENERATOR),
            route(["203.0.113.0/24", "2001:db8:3::/48"], Net::BACKEND),
        ]
        .concat())?;
        self.generator.ip(&[
            neighbour(Net::LISTENER, Net::GENERATOR_DEVICE, &mac(1, 1)),
            route(["198.51.100.0/24", "2001:db8:2::/64"], Net::LISTENER),
        ]
        .concat())?;
        self.sink.ip(&[
            neighbour(Net::GATEWAY, Net::SINK_DEVICE, &mac(2, 1)),
            route(["192.0.2.0/24", "2001:db8:1::/64"], Net::GATEWAY),
        ]
        .concat())?;
        // Checking sources is none of a gateway's NAT; a host that does it does it for every candidate.
        for scope in ["all", Net::IN, Net::OUT] {
            self.gateway
                .sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        }
        Ok(())
    }
}

fn both(pair: Pair) -> [String; 2] {
    [format!("{}/24", pair.0), format!("{}/64", pair.1)]
}
