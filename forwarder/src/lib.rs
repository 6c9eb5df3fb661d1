//! The forwarder daemon and CLI as a library.

pub mod capture;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod datapath;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod fault;
pub mod history;
pub mod metrics;
pub mod migrate;
pub mod network;
pub mod report;
pub mod top;
