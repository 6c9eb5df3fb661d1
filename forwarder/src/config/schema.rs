//! Which keys exist, in one place: unknown ones, suggestions and the refusals all ask here.

/// One table of the file.
#[derive(Debug)]
pub(super) struct Schema {
    /// Its key at the top level.
    pub key: &'static str,
    /// How it is written.
    pub header: &'static str,
    /// Its keys.
    pub keys: &'static [&'static str],
}

pub(super) const INTERFACE: Schema = Schema {
    key: "interface",
    header: "[[interface]]",
    keys: &["name", "mode", "optional"],
};

pub(super) const FORWARD: Schema = Schema {
    key: "forward",
    header: "[[forward]]",
    keys: &[
        "name",
        "protocol",
        "interface",
        "mode",
        "listen",
        "to",
        "source",
        "allow",
        "deny",
        "mss-clamp",
        "reset-unknown",
        "on-change",
    ],
};

pub(super) const MASQUERADE: Schema = Schema {
    key: "masquerade",
    header: "[[masquerade]]",
    keys: &[
        "name",
        "from",
        "interface",
        "mode",
        "ports",
        "source",
        "filtering",
        "mss-clamp",
        "on-change",
    ],
};

pub(super) const OUTPUT: Schema = Schema {
    key: "output",
    header: "[[output]]",
    keys: &["name", "protocol", "to-address", "to", "on-change"],
};

pub(super) const LIMITS: Schema = Schema {
    key: "limits",
    header: "[limits]",
    keys: &["flows", "half-open", "rules", "source-ports"],
};

pub(super) const TIMEOUTS: Schema = Schema {
    key: "timeouts",
    header: "[timeouts]",
    keys: &[
        "tcp-established",
        "tcp-half-open",
        "tcp-transitory",
        "udp",
        "udp-stream",
        "icmp",
        "drain",
    ],
};

pub(super) const CONTROL: Schema = Schema {
    key: "control",
    header: "[control]",
    keys: &["socket", "group", "mode"],
};

pub(super) const METRICS: Schema = Schema {
    key: "metrics",
    header: "[metrics]",
    keys: &["listen"],
};

pub(super) const LOG: Schema = Schema {
    key: "log",
    header: "[log]",
    keys: &["level", "format"],
};

pub(super) const ORIGINAL: Schema = Schema {
    key: "original-destination",
    header: "[original-destination]",
    keys: &["proxies", "port", "secret", "udp", "tcp"],
};

pub(super) const FLOW_LOG: Schema = Schema {
    key: "flow-log",
    header: "[flow-log]",
    keys: &["path", "journald", "format", "events"],
};

pub(super) const HISTORY: Schema = Schema {
    key: "history",
    header: "[history]",
    keys: &["path", "keep"],
};

/// All tables that are read.
pub(super) const TABLES: [&Schema; 12] = [
    &INTERFACE,
    &FORWARD,
    &MASQUERADE,
    &OUTPUT,
    &LIMITS,
    &TIMEOUTS,
    &CONTROL,
    &METRICS,
    &LOG,
    &ORIGINAL,
    &FLOW_LOG,
    &HISTORY,
];

/// The tables in which `key` would be right.
pub(super) fn homes(key: &str) -> impl Iterator<Item = &'static Schema> {
    TABLES
        .into_iter()
        .filter(move |table| table.keys.contains(&key))
}
