//! The test kit: packets, network namespaces, processes, mail responders and whole topologies.
//!
//! The test files of this crate, `cargo xtask demo` and `cargo xtask bench` are made of these parts.

pub mod interrupt;
pub mod machine;
pub mod mail;
pub mod netns;
pub mod packet;
pub mod probe;
pub mod process;
pub mod responder;
pub mod scenario;
