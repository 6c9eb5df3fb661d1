//! The forwarder daemon and CLI as a library.
pub mod datapath;
