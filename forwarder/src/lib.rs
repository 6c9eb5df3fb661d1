//! The forwarder daemon and CLI as a library.

pub mod config;
pub mod datapath;
