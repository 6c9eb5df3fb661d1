//! Whether a build can go on with what another version has pinned.

/// Numbers of layouts, by group. Every version pins its own beside its maps, and may take over those groups of another
/// whose numbers are its own. This record itself never changes.
pub type Layouts = [u32; 16];

/// Flows, and whatever they cannot live without: mappings, the flow caches, which rule has which slot. Without it
/// nothing is taken over.
pub const STATE: usize = 0;
/// Rules and what is known of the network. Written anew at every start, but never half old and half new.
pub const RULES: usize = 1;
/// Counters of what was not forwarded.
pub const COUNTERS: usize = 2;

/// Those of this build. Raise one, besides [`crate::ABI`], when a key or value in a map of its group changes size, offset
/// or meaning. 0 is what maps have that are too old to say.
pub const LAYOUTS: Layouts = {
    let mut all = [0; 16];
    all[STATE] = 1;
    all[RULES] = 1;
    all[COUNTERS] = 1;
    all
};
