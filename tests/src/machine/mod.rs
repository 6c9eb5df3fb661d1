//! A machine that runs eBPF programs and counts their instructions.
//!
//! How many instructions a packet costs is the same on every machine, which no time is. What is counted are the
//! instructions of the programs as they are handed to the kernel, each time one is executed; a call of a helper, or of a
//! map, is one, and how many of these there were is counted besides. What the kernel makes of a program when it loads it
//! (inlined look-ups, dead branches taken out) differs from kernel to kernel and is not counted.
//!
//! It knows of the kernel what the programs use of it. Whoever runs a packet here should run it in the kernel too, in
//! the same state, and compare what came of it.

pub mod alu;
mod helper;
pub mod instruction;
pub mod map;
pub mod memory;
pub mod packet;
mod run;
#[cfg(test)]
mod tests;

pub use run::{Jiffies, Outcome, Programs, Route, World, run};
