//! TCP as far as a translator must follow it.
//!
//! Each direction of a flow remembers only what it has itself seen. The state of the connection is a
//! function of both memories ([`State::of`]), so the fast path never needs the other direction's entry.

/// The flag octet of a TCP header (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// No flag, as for UDP.
    pub const NONE: Self = Self(0);
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;
    /// The flags of an answer to a segment that acknowledges something.
    pub const RESET: u8 = Self::RST;
    /// The flags of an answer to one that does not.
    pub const RESET_ACK: u8 = Self::RST | Self::ACK;

    /// From octet 13 of the header.
    #[inline(always)]
    pub const fn new(octet: u8) -> Self {
        Self(octet)
    }

    /// SYN without ACK, FIN or RST: the only packet that may open a flow.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::FIN | Self::RST) == Self::SYN
    }

    /// An ACK without SYN or RST: what completes a handshake when the client sends it.
    #[inline(always)]
    pub const fn acknowledges(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::ACK
    }

    /// Whether a connection is begun, by either side: only such segments name a maximum segment size.
    #[inline(always)]
    pub const fn synchronizes(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Whether a segment with these flags says that a connection begins or ends.
    #[inline(always)]
    pub const fn changes_state(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST) != 0
    }

    /// Whether the connection is reset.
    #[inline(always)]
    pub const fn resets(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// Whether the acknowledgment number counts.
    #[inline(always)]
    pub const fn has_ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// How many sequence numbers the flags themselves take (RFC 9293 section 3.4).
    #[inline(always)]
    pub const fn sequence_space(self) -> u32 {
        (self.0 & Self::SYN != 0) as u32 + (self.0 & Self::FIN != 0) as u32
    }

    /// What a packet with these flags adds to its direction's memory.
    #[inline(always)]
    pub const fn seen(self) -> Seen {
        let mut seen = 0;
        if self.0 & Self::SYN != 0 {
            seen |= Seen::SYN.0;
        }
        if self.0 & Self::FIN != 0 {
            seen |= Seen::FIN.0;
        }
        if self.0 & Self::RST != 0 {
            seen |= Seen::RST.0;
        }
        Seen(seen)
    }
}

/// What one direction of a flow has seen so far.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u8);

impl Seen {
    /// Nothing yet.
    pub const NONE: Self = Self(0);
    /// A SYN.
    pub const SYN: Self = Self(1);
    /// A FIN.
    pub const FIN: Self = Self(2);
    /// A RST.
    pub const RST: Self = Self(4);
    /// A packet (UDP, reply direction only), or the handshake's end (TCP). The original direction's memory is the one
    /// that counts.
    pub const CONFIRMED: Self = Self(8);

    /// Both memories in one.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of `wanted` has been seen.
    #[inline(always)]
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 != 0
    }

    /// Whether this direction has said that it is done, one way or the other.
    #[inline(always)]
    pub const fn closing(self) -> bool {
        self.has(Self(Self::FIN.0 | Self::RST.0))
    }
}

/// State of a flow, in netfilter's words where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// SYN from the client, nothing from the server.
    SynSent,
    /// SYN-ACK from the server, handshake not complete.
    SynReceived,
    /// Handshake complete.
    Established,
    /// One side has sent FIN.
    FinWait,
    /// Both sides have sent FIN.
    TimeWait,
    /// Either side has sent RST.
    Close,
    /// UDP: nothing has come back yet.
    Unreplied,
    /// UDP: packets both ways.
    Stream,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::Unreplied,
        Self::Stream,
    ];

    /// The state of a TCP flow from what its two directions have seen.
    pub const fn of_tcp(original: Seen, reply: Seen) -> Self {
        if original.has(Seen::RST) || reply.has(Seen::RST) {
            Self::Close
        } else if original.has(Seen::FIN) && reply.has(Seen::FIN) {
            Self::TimeWait
        } else if original.has(Seen::FIN) || reply.has(Seen::FIN) {
            Self::FinWait
        } else if original.has(Seen::CONFIRMED) {
            Self::Established
        } else if reply.has(Seen::SYN) {
            Self::SynReceived
        } else {
            Self::SynSent
        }
    }

    /// The state of a UDP flow: the reply direction is confirmed by its first packet.
    pub const fn of_udp(reply: Seen) -> Self {
        if reply.has(Seen::CONFIRMED) {
            Self::Stream
        } else {
            Self::Unreplied
        }
    }

    /// The name that listings show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::Unreplied => "UNREPLIED",
            Self::Stream => "STREAM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::syn(0x02, true, false)]
    #[case::syn_with_ecn(0xc2, true, false)]
    #[case::syn_ack(0x12, false, false)]
    #[case::syn_fin(0x03, false, false)]
    #[case::syn_rst(0x06, false, false)]
    #[case::ack(0x10, false, true)]
    #[case::psh_ack(0x18, false, true)]
    #[case::fin_ack(0x11, false, true)]
    #[case::rst_ack(0x14, false, false)]
    #[case::null(0x00, false, false)]
    fn flags_open_and_acknowledge(
        #[case] octet: u8,
        #[case] opens: bool,
        #[case] acknowledges: bool,
    ) {
        assert_eq!(Flags::new(octet).opens(), opens);
        assert_eq!(Flags::new(octet).acknowledges(), acknowledges);
    }

    #[test]
    fn states_are_numbered_by_position() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }

    const SYN: u8 = 1;
    const FIN: u8 = 2;
    const RST: u8 = 4;
    const CONFIRMED: u8 = 8;

    #[rstest]
    #[case(SYN, 0, State::SynSent)]
    #[case(SYN, SYN, State::SynReceived)]
    #[case(SYN | CONFIRMED, SYN, State::Established)]
    #[case(SYN | CONFIRMED | FIN, SYN, State::FinWait)]
    #[case(SYN | CONFIRMED, SYN | FIN, State::FinWait)]
    #[case(SYN | CONFIRMED | FIN, SYN | FIN, State::TimeWait)]
    #[case(SYN | CONFIRMED, SYN | RST, State::Close)]
    #[case(SYN, RST, State::Close)]
    fn state_is_a_function_of_both_directions(
        #[case] original: u8,
        #[case] reply: u8,
        #[case] expected: State,
    ) {
        assert_eq!(State::of_tcp(Seen(original), Seen(reply)), expected);
    }
}
