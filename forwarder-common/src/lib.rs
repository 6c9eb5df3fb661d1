//! What the forwarder's kernel and userspace halves share.
//!
//! Two kinds of thing live here: the layouts of everything that crosses the kernel boundary in a BPF
//! map ([`flow`], [`cache`], [`event`], [`rule`], [`device`], [`settings`], [`stats`]), and every decision about a packet that
//! needs no kernel helper ([`parse`], [`rewrite`], [`checksum`], [`port`], [`tcp`], [`reason`]). The
//! second kind is written over the [`frame::Frame`] trait, so the very code that runs in XDP and TC is
//! tested on the host.
#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod answer;
pub mod cache;
pub mod capture;
pub mod change;
pub mod checksum;
pub mod concern;
pub mod device;
pub mod entries;
pub mod ethernet;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod frame;
pub mod half_open;
pub mod icmp;
pub mod last;
pub mod layout;
pub mod mapping;
pub mod mss;
pub mod network;
pub mod parse;
pub mod port;
pub mod query;
pub mod reason;
pub mod rewrite;
pub mod rule;
pub mod settings;
pub mod stage;
pub mod stats;
pub mod tcp;

/// Version of the map layouts. Pinned maps live in a directory named after it, so that a build never
/// reads maps that another layout wrote. Raise it whenever a type in this crate that is stored in a map
/// changes size, offset or meaning.
pub const ABI: u32 = 6;
