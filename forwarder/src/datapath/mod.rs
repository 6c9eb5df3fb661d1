//! Everything that talks BPF: loading, pinning, attaching, and typed access to the maps.
//!
//! aya is named in this directory and nowhere else.

mod attach;
mod batch;
mod cache;
pub mod capture;
mod census;
mod clock;
mod compile;
mod concerns;
mod counters;
mod detach;
mod devices;
mod family;
mod fill;
mod flows;
mod globals;
mod half_open;
mod inspect;
mod last;
mod mapped;
pub mod memory;
mod object;
pub mod others;
mod pins;
mod programs;
mod rules;
mod shadow;
mod sweep;
mod syscall;
mod tables;
mod trial;
mod trial_tables;
mod view;
mod words;

pub use attach::{Attached, Wanted};
pub use census::{Census, Pool, States};
pub use clock::Clock;
pub use counters::RuleCount;
pub use detach::{Detached, detach_all};
pub use devices::{Address, Link, Vlan};
pub use fill::{Fill, family_name};
pub use flows::{Entry, Flow, Identity, Key, ends};
pub use inspect::{LoadedProgram, object};
pub use last::Refused;
pub use object::{Datapath, Sizes};
pub use pins::Pins;
pub use programs::TestRun;
pub use rules::RuleSet;
pub use shadow::ShadowCount;
pub use sweep::Swept;
pub use trial::{Met, Program, Ran, Shot, Trial, Tried};
pub use view::View;
pub use words::Words;
