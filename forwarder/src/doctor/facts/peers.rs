//! The other end of a veth pair, which is mostly in another network namespace.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _};
use nix::sched::{CloneFlags, setns};
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp},
        nsid::{NsidAttribute, NsidMessage},
    },
};

use super::{Channels, Device, Features, Gaps, ethtool};
use crate::doctor::finding::Group;
use crate::doctor::shell;

/// The other end of a veth pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::doctor) struct Peer {
    pub name: String,
    /// What a command for it has to begin with, `ip netns exec NAME ` for instance; empty if it is here.
    pub enter: String,
    pub mtu: u32,
    pub up: bool,
    pub features: Features,
    pub channels: Option<Channels>,
    /// Whether it has an XDP program.
    pub xdp: bool,
}

/// Where names of network namespaces are kept.
const NAMES: &str = "/run/netns";

/// Finds the other end of `device`, if it is a veth device.
pub(super) async fn describe(device: &mut Device, handle: &Handle, gaps: &mut Gaps) {
    let Some((index, namespace)) = device.other_end else {
        return;
    };
    let found = match namespace {
        None => look(handle, index, String::new()).await,
        Some(number) => elsewhere(handle, index, number).await,
    };
    let group = Group::Interface(device.name.clone());
    device.peer = gaps.take(group, "the other end of the veth pair", found);
}

/// Looks in the network namespace that is called `number` in ours.
async fn elsewhere(handle: &Handle, index: u32, number: i32) -> anyhow::Result<Peer> {
    for path in namespaces() {
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if number_of(handle, &file).await != Some(number) {
            continue;
        }
        let enter = enter(&path);
        // A thread of its own, as a namespace is a thread's; it ends with the work and never serves anybody else.
        let looked = std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).context(
                "entering its network namespace needs CAP_SYS_ADMIN; run this with sudo",
            )?;
            inside(index, enter)
        });
        return looked
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    bail!("its network namespace cannot be found; run this with sudo, and look there by hand")
}

/// With a runtime of its own: sockets are of the network namespace in which they are made.
fn inside(index: u32, enter: String) -> anyhow::Result<Peer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let peer = look(&handle, index, enter).await;
        connection.abort();
        peer
    })
}

async fn look(handle: &Handle, index: u32, enter: String) -> anyhow::Result<Peer> {
    let mut links = handle.link().get().match_index(index).execute();
    let message = links.try_next().await?.context("it is gone")?;
    let mut peer = described(&message);
    peer.enter = enter;
    (peer.features, peer.channels) = ethtool::ask(&peer.name).await?;
    Ok(peer)
}

fn described(message: &LinkMessage) -> Peer {
    let mut peer = Peer {
        up: message.header.flags.contains(LinkFlags::Up),
        ..Peer::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => peer.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => peer.mtu = *mtu,
            LinkAttribute::Xdp(facts) => {
                peer.xdp = facts.iter().any(|fact| matches!(fact, LinkXdp::ProgId(_)));
            }
            _ => {}
        }
    }
    peer
}

/// Every network namespace that can be entered: those with names first, then those of processes.
fn namespaces() -> Vec<PathBuf> {
    let named = entries(NAMES);
    let processes = entries("/proc").into_iter().map(|path| path.join("ns/net"));
    let mut seen = BTreeSet::new();
    named
        .into_iter()
        .chain(processes)
        .filter(|path| fs::metadata(path).is_ok_and(|facts| seen.insert(facts.ino())))
        .collect()
}

fn entries(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn enter(path: &Path) -> String {
    match path.strip_prefix(NAMES) {
        Ok(name) => format!("ip netns exec {} ", shell(&name.to_string_lossy())),
        Err(_) => format!("nsenter --net={} ", shell(&path.to_string_lossy())),
    }
}

/// What our network namespace calls the one behind `file`.
async fn number_of(handle: &Handle, file: &File) -> Option<i32> {
    let mut question = NsidMessage::default();
    let descriptor = u32::try_from(file.as_raw_fd()).ok()?;
    question.attributes.push(NsidAttribute::Fd(descriptor));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
    request.header.flags = NLM_F_REQUEST;
    let mut answers = handle.clone().request(request).ok()?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) = answer.payload {
            return answer.attributes.iter().find_map(|one| match one {
                NsidAttribute::Id(number) => Some(*number),
                _ => None,
            });
        }
    }
    None
}
