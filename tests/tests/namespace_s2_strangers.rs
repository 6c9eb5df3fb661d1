//! S2: who may send to a port that stands for a client's socket (RFC 4787 section 5).

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::responder::{PATIENCE, UdpEcho};
use tests::scenario::engines::{AUTO, TC, XDP};
use tests::scenario::{Engine, Family, Masquerade, Rig, S2, Source};

/// Long enough for what is let in to be there.
const KEPT_OUT: Duration = Duration::from_millis(500);

/// A client has asked one server; then another host sends to the port that the server has seen.
fn stranger(engine: Engine, family: Family, unfiltered: bool) -> Result<()> {
    let rule = Masquerade {
        name: "lan",
        from: family.pick(&["10.0.0.0/24"], &["fd00::/64"]),
        interface: S2::INSIDE,
        ports: &[],
        source: Source::Masquerade,
        unfiltered,
    };
    let rig = Rig::s2(engine, &[rule])?;
    let server = UdpEcho::start(&rig.hosts.mail, &S2::mail(family, 3478).to_string())?;
    rig.observe(|hosts| {
        let any = family.any(0);
        let client = hosts.one.run(|| UdpSocket::bind(&any))??;
        client.set_read_timeout(Some(PATIENCE))?;
        client.send_to(b"who am I", S2::mail(family, 3478))?;
        client.recv_from(&mut [0; 64])?;
        let seen = server.peers();
        let [mapped] = seen.as_slice() else {
            anyhow::bail!("one datagram came from {seen:?}");
        };

        let from: SocketAddr = S2::dns(family, 5000);
        let outsider = hosts.dns.run(|| UdpSocket::bind(from))??;
        outsider.set_read_timeout(Some(PATIENCE))?;
        outsider.send_to(b"hello", mapped)?;
        let mut buffer = [0; 64];
        if !unfiltered {
            client.set_read_timeout(Some(KEPT_OUT))?;
            let heard = client.recv_from(&mut buffer);
            ensure!(heard.is_err(), "a stranger was let in: {heard:?}");
            return Ok(());
        }
        let (length, peer) = client
            .recv_from(&mut buffer)
            .context("the stranger's datagram")?;
        ensure!(
            (&buffer[..length], peer) == (b"hello".as_slice(), from),
            "{peer} said {:?}",
            &buffer[..length]
        );
        client.send_to(b"welcome", from)?;
        let (length, peer) = outsider.recv_from(&mut buffer).context("the answer")?;
        ensure!(
            (&buffer[..length], peer) == (b"welcome".as_slice(), *mapped),
            "{peer} answered {:?}",
            &buffer[..length]
        );
        Ok(())
    })
}

#[rstest]
fn strangers_are_kept_out_unless_they_are_let_in(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(XDP, TC, AUTO)] engine: Engine,
    #[values(false, true)] unfiltered: bool,
) -> Result<()> {
    stranger(engine, family, unfiltered)
}
