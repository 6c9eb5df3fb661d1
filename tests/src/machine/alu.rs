//! Arithmetic and comparisons (RFC 9669 sections 4.1 to 4.3).

/// How much of a register an instruction works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The lower half; the upper half of the result is zero.
    W32,
    /// All of it.
    W64,
}

/// An operation with two operands. Those that take one ignore the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the operations'")]
pub enum Alu {
    Add,
    Subtract,
    Multiply,
    Divide,
    SignedDivide,
    Modulo,
    SignedModulo,
    Or,
    And,
    Xor,
    ShiftLeft,
    ShiftRight,
    ShiftRightSigned,
    Negate,
    Move,
    /// Extends the sign of so many bits.
    MoveSigned(u32),
    /// Of so many bits, as the others.
    ToLittleEndian(u32),
    ToBigEndian(u32),
    Swap(u32),
}

impl Alu {
    /// `left` operation `right`.
    #[must_use]
    pub fn apply(self, width: Width, left: u64, right: u64) -> u64 {
        match width {
            Width::W64 => self.wide(left, right),
            Width::W32 => u64::from(self.narrow(left as u32, right as u32)),
        }
    }

    fn wide(self, left: u64, right: u64) -> u64 {
        let (signed, divisor) = (left as i64, right as i64);
        match self {
            Self::Add => left.wrapping_add(right),
            Self::Subtract => left.wrapping_sub(right),
            Self::Multiply => left.wrapping_mul(right),
            Self::Divide => left.checked_div(right).unwrap_or(0),
            Self::Modulo => left.checked_rem(right).unwrap_or(left),
            Self::SignedDivide if right == 0 => 0,
            Self::SignedDivide => signed.wrapping_div(divisor) as u64,
            Self::SignedModulo if right == 0 => left,
            Self::SignedModulo => signed.wrapping_rem(divisor) as u64,
            Self::Or => left | right,
            Self::And => left & right,
            Self::Xor => left ^ right,
            Self::ShiftLeft => left.wrapping_shl(right as u32),
            Self::ShiftRight => left.wrapping_shr(right as u32),
            Self::ShiftRightSigned => signed.wrapping_shr(right as u32) as u64,
            Self::Negate => left.wrapping_neg(),
            Self::Move => right,
            Self::MoveSigned(bits) => extend(right, bits),
            Self::ToLittleEndian(bits) => left & mask(bits),
            Self::ToBigEndian(bits) | Self::Swap(bits) => {
                (left & mask(bits)).swap_bytes() >> (64 - bits)
            }
        }
    }

    fn narrow(self, left: u32, right: u32) -> u32 {
        let (signed, divisor) = (left as i32, right as i32);
        match self {
            Self::Divide => left.checked_div(right).unwrap_or(0),
            Self::Modulo => left.checked_rem(right).unwrap_or(left),
            Self::SignedDivide if right == 0 => 0,
            Self::SignedDivide => signed.wrapping_div(divisor) as u32,
            Self::SignedModulo if right == 0 => left,
            Self::SignedModulo => signed.wrapping_rem(divisor) as u32,
            Self::ShiftLeft => left.wrapping_shl(right),
            Self::ShiftRight => left.wrapping_shr(right),
            Self::ShiftRightSigned => signed.wrapping_shr(right) as u32,
            // The lower half of the result depends on the lower halves alone.
            _ => self.wide(left.into(), right.into()) as u32,
        }
    }
}

fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// The lower `bits` with their sign extended.
fn extend(value: u64, bits: u32) -> u64 {
    let unused = 64 - bits;
    ((value << unused) as i64 >> unused) as u64
}

/// The value of `size` bytes with its sign extended.
#[must_use]
pub fn extend_bytes(value: u64, size: usize) -> u64 {
    extend(value, 8 * size as u32)
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the comparisons'")]
pub enum Condition {
    Equal,
    NotEqual,
    AnyBit,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    SignedLess,
    SignedLessEqual,
    SignedGreater,
    SignedGreaterEqual,
}

impl Condition {
    /// Whether it holds.
    #[must_use]
    pub fn holds(self, width: Width, left: u64, right: u64) -> bool {
        let (left, right) = match width {
            Width::W64 => (left, right),
            // With their signs, which order the halves as they were, signed or not.
            Width::W32 => (extend(left, 32), extend(right, 32)),
        };
        let (signed, other) = (left as i64, right as i64);
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::AnyBit => left & right != 0,
            Self::Less => left < right,
            Self::LessEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterEqual => left >= right,
            Self::SignedLess => signed < other,
            Self::SignedLessEqual => signed <= other,
            Self::SignedGreater => signed > other,
            Self::SignedGreaterEqual => signed >= other,
        }
    }
}
