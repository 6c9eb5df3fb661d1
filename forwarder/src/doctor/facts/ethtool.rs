//! What ethtool tells of a device.

use std::collections::BTreeMap;

use ::ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolFeatureAttr, EthtoolHandle};
use futures_util::TryStreamExt as _;

use super::{Device, Gaps};
use crate::doctor::finding::Group;

/// An offload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Feature {
    pub on: bool,
    /// Whether it can be switched at all.
    pub fixed: bool,
}

/// Offloads by the kernel's names for them (`rx-lro`, not `lro`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Features(pub BTreeMap<String, Feature>);

impl Features {
    /// Whether it is on; a device that does not know it has it off.
    pub fn on(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|feature| feature.on)
    }

    /// Whether it is on and can be switched off.
    pub fn removable(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|feature| feature.on && !feature.fixed)
    }

    /// Whether the device leaves checksums of what it sends undone.
    pub fn leaves_checksums(&self) -> bool {
        ["tx-checksum-ip-generic", "tx-checksum-ipv4"]
            .iter()
            .any(|name| self.on(name))
    }
}

/// Queues: how many there are and may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Channels {
    pub combined: u32,
    pub rx: u32,
    pub tx: u32,
    pub max_combined: u32,
    pub max_rx: u32,
    pub max_tx: u32,
}

/// Asks for offloads and queues.
pub(super) async fn describe(device: &mut Device, gaps: &mut Gaps) {
    match ask(&device.name).await {
        Ok((features, channels)) => {
            device.features = Some(features);
            device.channels = channels;
        }
        Err(error) => gaps.push(
            Group::Interface(device.name.clone()),
            "offloads and queues",
            format!("{error:#}"),
        ),
    }
}

/// Offloads and queues of the device `name` of this network namespace. Not every driver tells of queues.
pub(super) async fn ask(name: &str) -> anyhow::Result<(Features, Option<Channels>)> {
    let (connection, mut handle, _) = ::ethtool::new_connection()?;
    let connection = tokio::spawn(connection);
    let features = features(&mut handle, name).await;
    let channels = channels(&mut handle, name).await.ok();
    connection.abort();
    Ok((features?, channels))
}

async fn features(handle: &mut EthtoolHandle, name: &str) -> anyhow::Result<Features> {
    let mut features = Features::default();
    let messages = handle.feature().get(Some(name)).execute().await?;
    let messages: Vec<_> = messages.try_collect().await?;
    for attribute in messages.iter().flat_map(|one| &one.payload.nlas) {
        let EthtoolAttr::Feature(attribute) = attribute else {
            continue;
        };
        match attribute {
            EthtoolFeatureAttr::Active(bits) => {
                for bit in bits {
                    features.0.entry(bit.name.clone()).or_default().on = bit.value;
                }
            }
            EthtoolFeatureAttr::NoChange(bits) => {
                for bit in bits {
                    features.0.entry(bit.name.clone()).or_default().fixed = bit.value;
                }
            }
            // Some offloads are not in the driver's hands, and then nothing can be changed.
            _ => {}
        }
    }
    Ok(features)
}

async fn channels(handle: &mut EthtoolHandle, name: &str) -> anyhow::Result<Channels> {
    let mut channels = Channels::default();
    let messages = handle.channel().get(Some(name)).execute().await?;
    let messages: Vec<_> = messages.try_collect().await?;
    for attribute in messages.iter().flat_map(|one| &one.payload.nlas) {
        let EthtoolAttr::Channel(attribute) = attribute else {
            continue;
        };
        match attribute {
            EthtoolChannelAttr::CombinedCount(count) => channels.combined = *count,
            EthtoolChannelAttr::RxCount(count) => channels.rx = *count,
            EthtoolChannelAttr::TxCount(count) => channels.tx = *count,
            EthtoolChannelAttr::CombinedMax(count) => channels.max_combined = *count,
            EthtoolChannelAttr::RxMax(count) => channels.max_rx = *count,
            EthtoolChannelAttr::TxMax(count) => channels.max_tx = *count,
            _ => {}
        }
    }
    Ok(channels)
}
