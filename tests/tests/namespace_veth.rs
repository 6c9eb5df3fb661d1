//! veth devices do not take every frame that XDP sends them, and say so only in part. Whatever the peer is like,
//! the forwarder has to find a way of sending that arrives.

use anyhow::Result;
use rstest::rstest;
use tests::netns::{Reception, Wire};
use tests::responder::{Server, connect, pop3, pop3_client};
use tests::scenario::engines::{AUTO, TC, XDP, XDP_GENERIC};
use tests::scenario::{Engine, Rig, Rule, S0, S3};

fn cable(reception: Reception) -> Wire {
    Wire {
        reception,
        ..Wire::CABLE
    }
}

/// Out by the device it came in by.
#[rstest]
fn replies_and_requests_turn_round(
    #[values(Reception::Plain, Reception::Napi, Reception::Program)] reception: Reception,
    #[values(XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    let rule = Rule::masquerade("pop3", "203.0.113.5:110", "195.228.245.1:110");
    let rig = Rig::s0_on(cable(reception), engine, &[rule])?;
    let _mailbox = Server::start(&rig.hosts.server, "195.228.245.1:110", pop3)?;
    rig.observe(|hosts| Ok(pop3_client(connect(&hosts.client, S0::at_gateway(110))?)?))?;
    Ok(())
}

/// Out by another device.
#[rstest]
fn replies_and_requests_pass_through(
    #[values(Reception::Plain, Reception::Napi, Reception::Program)] reception: Reception,
    #[values(XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    let rule = Rule::preserve("pop3", "203.0.113.5:110", "10.1.0.2:110");
    let rig = Rig::s3_on(cable(reception), engine, &[rule])?;
    let _mailbox = Server::start(&rig.hosts.mail, "10.1.0.2:110", pop3)?;
    rig.observe(|hosts| Ok(pop3_client(connect(&hosts.near, S3::public(1, 110))?)?))?;
    Ok(())
}
