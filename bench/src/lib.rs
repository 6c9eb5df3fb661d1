//! The forwarder and its rivals, measured side by side between network namespaces.

pub mod compare;
pub mod conntrack;
pub mod gates;
pub mod gateway;
pub mod hosts;
pub mod measure;
pub mod napi;
pub mod net;
pub mod passage;
pub mod phases;
pub mod plan;
pub mod plot;
pub mod programs;
pub mod results;
pub mod rig;
pub mod session;
pub mod stats;
pub mod table;

#[path = "../../bench-ebpf/src/count.rs"]
pub mod count;
#[path = "../../bench-ebpf/src/tcp.rs"]
pub mod tcp;
#[path = "../../bench-ebpf/src/wire.rs"]
pub mod wire;
