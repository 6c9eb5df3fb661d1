//! `forwarder explain`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail, ensure};

use super::args::ExplainArgs;
use super::{output, query};
use crate::control::{FlowProtocol, client};
use crate::explain::{ExplainQuery, TcpFlag};
use crate::report::Render as _;

/// An echo's identifier where none is named.
const IDENTIFIER: u16 = 1;

pub(super) fn explain(args: &ExplainArgs) -> Result<()> {
    let explanation = client::explain(&query::socket(&args.query.socket)?, described(args)?)?;
    match args.query.json {
        true => output::line(&serde_json::to_string_pretty(&explanation)?),
        false => output::text(&explanation.render()),
    }
}

fn described(args: &ExplainArgs) -> Result<ExplainQuery> {
    let [source, destination] = [args.source, args.destination];
    let (source, destination) = match args.protocol {
        FlowProtocol::Icmp => (source.with(IDENTIFIER), destination.with(0)),
        _ => match (source.whole(), destination.whole()) {
            (Some(source), Some(destination)) => (source, destination),
            _ => bail!("TCP and UDP have ports: give ADDR:PORT for source and destination"),
        },
    };
    ensure!(
        source.is_ipv4() == destination.is_ipv4(),
        "source and destination are of two families: give both as IPv4 or both as IPv6"
    );
    let flags = match args.protocol {
        FlowProtocol::Tcp if args.flags.is_empty() => vec![TcpFlag::Syn],
        FlowProtocol::Tcp => args.flags.clone(),
        _ if args.flags.is_empty() => Vec::new(),
        _ => bail!("only TCP has flags: leave --flags out, or say --protocol tcp"),
    };
    Ok(ExplainQuery {
        interface: args.interface.clone(),
        protocol: args.protocol,
        source,
        destination,
        flags,
        ttl: args.ttl,
        payload: args.payload,
        output: args.output,
    })
}

/// One end of the packet: `ADDR:PORT`, or `ADDR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    address: IpAddr,
    port: Option<u16>,
}

impl End {
    fn whole(self) -> Option<SocketAddr> {
        self.port.map(|port| SocketAddr::new(self.address, port))
    }

    fn with(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, self.port.unwrap_or(port))
    }
}

/// # Errors
/// One sentence about what was expected.
pub(super) fn end(text: &str) -> Result<End, String> {
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Ok(End {
            address: end.ip(),
            port: Some(end.port()),
        });
    }
    let address = text.parse().map_err(|_| {
        "expected ADDR:PORT such as 198.51.100.7:40000 or [2001:db8::7]:40000; for an echo, ADDR"
            .to_owned()
    })?;
    Ok(End {
        address,
        port: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_ports_or_not() {
        let port = |text| end(text).map(|end| end.port);
        assert_eq!(port("198.51.100.7:40000"), Ok(Some(40_000)));
        assert_eq!(port("[2001:db8::7]:25"), Ok(Some(25)));
        assert_eq!(port("2001:db8::7"), Ok(None));
        port("mail.example.net:25").unwrap_err();
    }
}
