//! What the configuration's contract has and this version does not do.
//!
//! Everything here is refused in one sentence, never read and ignored. A feature that arrives takes its line
//! out of here and brings its reader.

/// Top-level tables: key, and how it is written.
pub(super) const TABLES: &[(&str, &str)] = &[("original-destination", "[original-destination]")];
