//! The programs in the kernel, one packet at a time, by `BPF_PROG_TEST_RUN`.
//!
//! Every packet is checked for its verdict, for every byte that came out, and for everything that was counted.

mod bench;
mod cost;
mod counted;
mod expiry;
mod flows;
mod loaded;
mod ports;
mod refused;
mod reload;
mod routes;
mod rules;
mod slow_path;
mod states;
mod topology;
mod traffic;
mod translate;
