//! Instructions, decoded (RFC 9669).

use anyhow::{Result, bail, ensure};

use super::alu::{Alu, Condition, Width};

/// Number of a register, 0 to 10.
pub type Register = usize;

/// A second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// What a register holds.
    Register(Register),
    /// A constant, its sign extended to 64 bits.
    Immediate(u64),
}

/// What `lddw` puts into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// A number.
    Number(u64),
    /// The map with this number.
    Map(usize),
    /// A place in the only value of the map with this number: a global variable.
    Global(usize, u32),
}

/// What an atomic instruction does with the value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    /// Combines it with the source, which gets the old value if the flag is set.
    Combine(Alu, bool),
    /// Exchanges it for the source.
    Exchange,
    /// Exchanges it for the source if it equals r0, which gets the old value.
    CompareExchange,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `destination = destination operation operand`
    Alu(Width, Alu, Register, Operand),
    /// `destination = constant`; takes two slots.
    Constant(Register, Constant),
    /// The second slot of a constant, which is never executed.
    Second,
    /// `destination = *(base + offset)`, so many bytes, with its sign extended if the flag is set.
    Load(usize, bool, Register, (Register, i16)),
    /// `*(base + offset) = operand`, so many bytes.
    Store(usize, (Register, i16), Operand),
    /// `*(base + offset)`, so many bytes, changed with a source.
    Atomic(usize, Atomic, (Register, i16), Register),
    /// Goes on so many slots behind the next one.
    Jump(i32),
    /// The same if the condition holds between a register and an operand.
    Branch(Width, Condition, Register, Operand, i16),
    /// Calls a helper of the kernel's.
    Helper(u32),
    /// Calls the function so many slots behind the next one.
    Local(i32),
    /// Returns.
    Exit,
}

/// The fields of a slot of eight bytes, little-endian.
#[derive(Clone, Copy)]
struct Slot {
    code: u8,
    destination: Register,
    source: Register,
    offset: i16,
    immediate: i32,
}

impl Slot {
    fn new(bytes: [u8; 8]) -> Result<Self> {
        let [code, registers, offset @ .., a, b, c, d] = bytes;
        let slot = Self {
            code,
            destination: usize::from(registers & 15),
            source: usize::from(registers >> 4),
            offset: i16::from_le_bytes(offset),
            immediate: i32::from_le_bytes([a, b, c, d]),
        };
        ensure!(slot.destination <= 10, "a register that does not exist");
        Ok(slot)
    }

    /// By the bit that chooses between register and constant.
    fn operand(self) -> Operand {
        match self.code & 0x08 {
            0 => Operand::Immediate(self.immediate as i64 as u64),
            _ => Operand::Register(self.source),
        }
    }

    /// Bytes that a load or store moves.
    fn size(self) -> usize {
        [4, 2, 1, 8][usize::from(self.code >> 3 & 3)]
    }
}

/// Decodes a program.
///
/// # Errors
/// An instruction is not known here.
pub fn decode(program: &[[u8; 8]]) -> Result<Vec<Instruction>> {
    let mut decoded = Vec::with_capacity(program.len());
    while let Some(bytes) = program.get(decoded.len()) {
        let slot = Slot::new(*bytes)?;
        if slot.code == 0x18 {
            let Some([.., a, b, c, d]) = program.get(decoded.len() + 1) else {
                bail!("a constant without its second half");
            };
            let high = u32::from_le_bytes([*a, *b, *c, *d]);
            decoded.push(constant(slot, high)?);
            decoded.push(Instruction::Second);
        } else {
            decoded.push(one(slot)?);
        }
    }
    Ok(decoded)
}

fn constant(slot: Slot, high: u32) -> Result<Instruction> {
    let low = slot.immediate as u32;
    let value = match slot.source {
        0 => Constant::Number(u64::from(high) << 32 | u64::from(low)),
        1 => Constant::Map(low as usize),
        2 => Constant::Global(low as usize, high),
        kind => bail!("a constant of kind {kind}"),
    };
    Ok(Instruction::Constant(slot.destination, value))
}

fn one(slot: Slot) -> Result<Instruction> {
    let (destination, source) = (slot.destination, slot.source);
    Ok(match slot.code & 0x07 {
        // LDX and its modes MEM and MEMSX.
        1 => match slot.code & 0xe0 {
            0x60 => Instruction::Load(slot.size(), false, destination, (source, slot.offset)),
            0x80 => Instruction::Load(slot.size(), true, destination, (source, slot.offset)),
            mode => bail!("a load of mode {mode:#x}"),
        },
        // ST.
        2 => {
            let value = Operand::Immediate(slot.immediate as i64 as u64);
            Instruction::Store(slot.size(), (destination, slot.offset), value)
        }
        // STX and its modes MEM and ATOMIC.
        3 => match slot.code & 0xe0 {
            0x60 => {
                let value = Operand::Register(source);
                Instruction::Store(slot.size(), (destination, slot.offset), value)
            }
            0xc0 => atomic(slot)?,
            mode => bail!("a store of mode {mode:#x}"),
        },
        4 => {
            let operation = alu(slot)?;
            // Conversions say themselves how many bits they take.
            let width = match operation {
                Alu::ToLittleEndian(_) | Alu::ToBigEndian(_) => Width::W64,
                _ => Width::W32,
            };
            Instruction::Alu(width, operation, destination, slot.operand())
        }
        5 => jump(slot, Width::W64)?,
        6 => jump(slot, Width::W32)?,
        7 => Instruction::Alu(Width::W64, alu(slot)?, destination, slot.operand()),
        class => bail!("an instruction of class {class}"),
    })
}

fn alu(slot: Slot) -> Result<Alu> {
    let signed = slot.offset == 1;
    Ok(match slot.code & 0xf0 {
        0x00 => Alu::Add,
        0x10 => Alu::Subtract,
        0x20 => Alu::Multiply,
        0x30 if signed => Alu::SignedDivide,
        0x30 => Alu::Divide,
        0x40 => Alu::Or,
        0x50 => Alu::And,
        0x60 => Alu::ShiftLeft,
        0x70 => Alu::ShiftRight,
        0x80 => Alu::Negate,
        0x90 if signed => Alu::SignedModulo,
        0x90 => Alu::Modulo,
        0xa0 => Alu::Xor,
        0xb0 if slot.offset != 0 => Alu::MoveSigned(u32::try_from(slot.offset)?),
        0xb0 => Alu::Move,
        0xc0 => Alu::ShiftRightSigned,
        // Class and source bit choose between the three; the constant says how many bits.
        0xd0 => {
            let bits = u32::try_from(slot.immediate)?;
            ensure!(
                [16, 32, 64].contains(&bits),
                "{bits} bits cannot be swapped"
            );
            match slot.code {
                0xd4 => Alu::ToLittleEndian(bits),
                0xdc => Alu::ToBigEndian(bits),
                _ => Alu::Swap(bits),
            }
        }
        code => bail!("arithmetic of code {code:#x}"),
    })
}

fn jump(slot: Slot, width: Width) -> Result<Instruction> {
    let condition = match slot.code & 0xf0 {
        0x00 if width == Width::W32 => return Ok(Instruction::Jump(slot.immediate)),
        0x00 => return Ok(Instruction::Jump(i32::from(slot.offset))),
        0x10 => Condition::Equal,
        0x20 => Condition::Greater,
        0x30 => Condition::GreaterEqual,
        0x40 => Condition::AnyBit,
        0x50 => Condition::NotEqual,
        0x60 => Condition::SignedGreater,
        0x70 => Condition::SignedGreaterEqual,
        0x80 => {
            return Ok(match slot.source {
                0 => Instruction::Helper(slot.immediate as u32),
                1 => Instruction::Local(slot.immediate),
                kind => bail!("a call of kind {kind}"),
            });
        }
        0x90 => return Ok(Instruction::Exit),
        0xa0 => Condition::Less,
        0xb0 => Condition::LessEqual,
        0xc0 => Condition::SignedLess,
        0xd0 => Condition::SignedLessEqual,
        code => bail!("a jump of code {code:#x}"),
    };
    let (register, operand) = (slot.destination, slot.operand());
    Ok(Instruction::Branch(
        width,
        condition,
        register,
        operand,
        slot.offset,
    ))
}

fn atomic(slot: Slot) -> Result<Instruction> {
    let fetches = slot.immediate & 1 != 0;
    let what = match slot.immediate & !1 {
        0x00 => Atomic::Combine(Alu::Add, fetches),
        0x40 => Atomic::Combine(Alu::Or, fetches),
        0x50 => Atomic::Combine(Alu::And, fetches),
        0xa0 => Atomic::Combine(Alu::Xor, fetches),
        0xe0 => Atomic::Exchange,
        0xf0 => Atomic::CompareExchange,
        code => bail!("an atomic instruction of code {code:#x}"),
    };
    let place = (slot.destination, slot.offset);
    Ok(Instruction::Atomic(slot.size(), what, place, slot.source))
}
