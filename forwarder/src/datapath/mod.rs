//! Everything that talks BPF: loading, pinning, attaching, and typed access to the maps.
//!
//! aya is named in this directory and nowhere else.

mod attach;
mod batch;
mod clock;
mod compile;
mod counters;
mod detach;
mod devices;
mod flows;
mod object;
mod pins;
mod programs;
mod rules;
mod syscall;
mod tables;
mod words;

pub use attach::Attached;
pub use clock::Clock;
pub use counters::RuleCount;
pub use detach::{Detached, detach_all};
pub use devices::{Address, Link};
pub use flows::{Flow, Swept, ends, timeout};
pub use object::{Datapath, Sizes};
pub use pins::Pins;
pub use programs::TestRun;
pub use words::Words;
