//! The parts of the pipeline that are programs of their own.
//!
//! The main program holds what every packet of a known flow needs. Everything rarer is reached by a tail
//! call, so that the verifier judges each part alone and none of them is near its limits.

use crate::reason::Reason;

/// A part of the pipeline, for one address family.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The main program, once more, after another stage has prepared its way.
    Main,
    /// Prepares a flow: rule, backend, route, source address.
    Open,
    /// Reserves its source port and makes it.
    Reserve,
    /// Lowers the maximum segment size of a SYN and sends it.
    Clamp,
    /// Translates an ICMP error and the packet in it.
    Error,
    /// Translates a fragment.
    Fragment,
    /// Turns a packet that is not sent on into a message to its sender.
    Answer,
    /// Answers a proxy's query for an original destination. IPv4 only.
    Query,
}

impl Stage {
    /// All of them, in the order of their numbers, with the names that programs have.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Main, "main"),
        (Self::Open, "open"),
        (Self::Reserve, "reserve"),
        (Self::Clamp, "clamp"),
        (Self::Error, "error"),
        (Self::Fragment, "fragment"),
        (Self::Answer, "answer"),
        (Self::Query, "query"),
    ];

    /// Its place in the table of programs: stages in order, IPv4 before IPv6.
    #[inline(always)]
    pub const fn index(self, ipv6: bool) -> u32 {
        self as u32 * 2 + ipv6 as u32
    }

    /// Length of the table of programs.
    pub const COUNT: u32 = Self::ALL.len() as u32 * 2;
}

/// How a packet leaves a stage without being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is not sent on.
    Refused(Reason),
    /// It is not sent on, and its sender is told why.
    Answered(Reason),
    /// Another stage goes on with it.
    To(Stage),
}

impl From<Reason> for Exit {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}
