//! Whether backends answer, found out by talking to them as any client of this host would.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Gaps;
use crate::config::{Config, Protocol};
use crate::doctor::finding::Group;
use crate::network::Network;

/// One port of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Probe {
    pub protocol: Protocol,
    pub address: SocketAddr,
    pub answer: Answer,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Answer {
    /// TCP: the handshake was finished.
    Open,
    /// TCP: a reset. UDP: an ICMP error.
    Refused,
    /// TCP: nothing.
    Silent,
    /// Something on the way, or this host, says no.
    Unreachable,
    /// UDP: nothing, as with most services that get no question.
    Unknown,
}

/// How long a handshake may take, and how long an ICMP error may.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_UDP: Duration = Duration::from_millis(400);
/// How many are asked, and how many at once: a list of backends may be long.
const MOST: usize = 256;
const AT_ONCE: usize = 64;

/// Asks the first port of every backend. Those that are this host itself are left out.
pub(super) async fn probe(config: &Config, network: &Network, gaps: &mut Gaps) -> Vec<Probe> {
    let own = |address: IpAddr| network.addresses.iter().any(|own| own.address == address);
    let targets: BTreeSet<_> = targets(config)
        .filter(|(_, target)| !own(target.ip()))
        .collect();
    if targets.len() > MOST {
        let left = targets.len() - MOST;
        gaps.push(
            Group::Backends,
            format!("{left} of {} backends", targets.len()),
            format!("only the first {MOST} are asked"),
        );
    }
    let asked = targets
        .into_iter()
        .take(MOST)
        .map(|(protocol, address)| async move {
            let answer = match protocol {
                Protocol::Tcp => tcp(address).await,
                Protocol::Udp => udp(address).await.unwrap_or(Answer::Unreachable),
            };
            Probe {
                protocol,
                address,
                answer,
            }
        });
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

fn targets(config: &Config) -> impl Iterator<Item = (Protocol, SocketAddr)> {
    let forwards = config.rules.iter().flat_map(|rule| {
        let ports = rule.listen.ports;
        rule.backends()
            .iter()
            .map(move |backend| (rule.tcp, rule.udp, backend, ports))
    });
    let outputs = config
        .outputs
        .iter()
        .map(|rule| (rule.tcp, rule.udp, &rule.backend, rule.ports));
    forwards
        .chain(outputs)
        .flat_map(|(tcp, udp, backend, ports)| {
            let target = SocketAddr::new(backend.address, backend.port_for(ports, ports.first));
            let both = [(tcp, Protocol::Tcp), (udp, Protocol::Udp)];
            both.into_iter()
                .filter(|(wanted, _)| *wanted)
                .map(move |(_, protocol)| (protocol, target))
        })
}

async fn tcp(address: SocketAddr) -> Answer {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Answer::Open,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Answer::Refused,
        Ok(Err(_)) => Answer::Unreachable,
        Err(_) => Answer::Silent,
    }
}

/// An empty datagram. Services do not answer it, but a host without one sends an ICMP error.
async fn udp(address: SocketAddr) -> io::Result<Answer> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    socket.send(&[]).await?;
    match timeout(PATIENCE_UDP, socket.recv(&mut [0; 64])).await {
        Ok(Ok(_)) => Ok(Answer::Open),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Answer::Refused),
        Ok(Err(_)) => Ok(Answer::Unreachable),
        Err(_) => Ok(Answer::Unknown),
    }
}
