//! The two families of addresses, for scenarios that run once with each.

use std::net::{IpAddr, SocketAddr};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The one of two things that is this family's.
    #[must_use]
    pub const fn pick<T: Copy>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// The one of two things, IPv4's first, that is this family's.
    #[must_use]
    pub const fn among<T>(self, both: &[T; 2]) -> &T {
        match self {
            Self::V4 => &both[0],
            Self::V6 => &both[1],
        }
    }

    /// The wildcard address with a port, for servers to bind.
    #[must_use]
    pub fn any(self, port: u16) -> String {
        format!("{}:{port}", self.pick("0.0.0.0", "[::]"))
    }

    /// The family of an address as rules have it: in brackets, or as a bare prefix.
    pub(super) fn of(address: &str) -> Self {
        // `ADDR:PORT` has one colon.
        if address.starts_with('[') || address.matches(':').count() > 1 {
            Self::V6
        } else {
            Self::V4
        }
    }
}

/// A port at one of two addresses, whichever is of the family.
///
/// # Panics
/// If one of them is not an address.
pub(super) fn at(family: Family, v4: &str, v6: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address(family, v4, v6), port)
}

/// One of two addresses, whichever is of the family.
///
/// # Panics
/// If one of them is not an address.
pub(super) fn address(family: Family, v4: &str, v6: &str) -> IpAddr {
    family
        .pick(v4, v6)
        .parse()
        .expect("scenarios know their addresses")
}
