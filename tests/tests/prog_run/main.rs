//! The programs in the kernel, one packet at a time, by `BPF_PROG_TEST_RUN`.
//!
//! Every packet is checked for its verdict, for every byte that came out, and for everything that was counted.

mod answer;
mod bench;
mod cache;
mod checks;
mod cost;
mod counted;
mod ended;
mod events;
mod expected;
mod expiry;
mod extension;
mod family;
mod flows;
mod fragment_limits;
mod fragments;
mod full;
mod hairpin;
mod icmp;
mod instructions;
mod loaded;
mod local;
mod memory;
mod mss;
mod outbound;
mod output;
mod ports;
mod query;
mod record;
mod refused;
mod reload;
mod routes;
mod rules;
mod shadow;
mod slow_path;
mod states;
mod topology;
mod traffic;
mod translate;
mod vlan;
