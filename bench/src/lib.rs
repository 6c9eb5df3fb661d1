//! The forwarder and its rivals, measured side by side between network namespaces.

pub mod gateway;
pub mod napi;
pub mod net;
pub mod plan;
pub mod programs;
pub mod rig;

#[path = "../../bench-ebpf/src/wire.rs"]
pub mod wire;
