//! Everything that talks BPF: loading, pinning, attaching, and typed access to the maps.
//!
//! aya is named in this directory and nowhere else.

pub mod object;
