//! One run of a program, instruction by instruction.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};

use super::alu::extend_bytes;
use super::helper::{self, id};
use super::instruction::{Atomic, Constant, Instruction, Operand};
use super::map::Map;
use super::memory::{CONTEXT, DEPTH, Memory};
use super::packet::Packet;

/// Programs by name.
pub type Programs = BTreeMap<String, Arc<[Instruction]>>;

/// The kernel's answer to where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The device it leaves by.
    pub device: u32,
    /// That device's MAC address.
    pub source: [u8; 6],
    /// The next hop's.
    pub destination: [u8; 6],
    /// Bytes that the way takes.
    pub mtu: u16,
}

/// `bpf_jiffies64`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jiffies {
    /// What the clock shows.
    pub now: u64,
    /// After how many more readings it goes on, and by how much, if it does.
    pub tick: Option<(u32, u64)>,
}

impl Jiffies {
    /// Reads the clock.
    pub(super) fn read(&mut self) -> u64 {
        let now = self.now;
        self.tick = match self.tick {
            Some((1, by)) => {
                self.now += by;
                None
            }
            other => other.map(|(left, by)| (left - 1, by)),
        };
        now
    }
}

/// What a program can learn from the kernel and not from its maps.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// `bpf_jiffies64`.
    pub jiffies: Jiffies,
    /// `bpf_ktime_get_ns`.
    pub nanoseconds: u64,
    /// The CPU that it runs on.
    pub cpu: u32,
    /// Every random number.
    pub random: u32,
    /// The ways that there are, by destination.
    pub routes: BTreeMap<IpAddr, Route>,
}

/// What came of a packet, and what it took.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The program's return value.
    pub verdict: u32,
    /// Packet and maps afterwards.
    pub memory: Memory,
    /// The programs that the packet went through.
    pub way: Vec<String>,
    /// Every instruction that was executed: which of these programs it is of, and its slot there. A call of a helper is
    /// one, whatever the helper does.
    pub trace: Vec<(usize, usize)>,
    /// How many of these are calls of helpers, tail calls among them.
    pub calls: u32,
}

/// Instructions after which a program is taken to be in a loop.
const LIMIT: usize = 1_000_000;
/// Tail calls that the kernel allows.
const TAIL_CALLS: usize = 33;

/// A caller that waits.
struct Caller {
    program: Arc<[Instruction]>,
    next: usize,
    kept: [u64; 4],
}

struct Run<'a> {
    programs: &'a Programs,
    world: &'a mut World,
    memory: Memory,
    program: Arc<[Instruction]>,
    registers: [u64; 11],
    next: usize,
    callers: Vec<Caller>,
    trace: Vec<(usize, usize)>,
    calls: u32,
    way: Vec<String>,
}

/// Runs `program` over `packet`. The world's clock goes on.
///
/// # Errors
/// It does what the verifier would not have let it do, or what is not modelled here.
pub fn run(
    programs: &Programs,
    world: &mut World,
    maps: Vec<Map>,
    program: &str,
    packet: Packet,
) -> Result<Outcome> {
    let mut run = Run {
        programs,
        world,
        memory: Memory::new(packet, maps),
        program: find(programs, program)?,
        registers: [0; 11],
        next: 0,
        callers: Vec::new(),
        trace: Vec::new(),
        calls: 0,
        way: vec![program.to_owned()],
    };
    run.registers[1] = CONTEXT;
    run.registers[10] = Memory::frame_end(0);
    loop {
        let at = run.next;
        match run.step() {
            Ok(None) => {}
            Ok(Some(verdict)) => {
                return Ok(Outcome {
                    verdict: verdict as u32,
                    memory: run.memory,
                    trace: run.trace,
                    calls: run.calls,
                    way: run.way,
                });
            }
            Err(error) => {
                let instruction = run.program.get(at);
                return Err(error.context(format!("{:?} at {at}: {instruction:?}", run.way)));
            }
        }
    }
}

fn find(programs: &Programs, name: &str) -> Result<Arc<[Instruction]>> {
    let program = programs.get(name);
    program
        .cloned()
        .with_context(|| format!("no program {name}"))
}

impl Run<'_> {
    /// Executes the next instruction; the return value if it is the last.
    fn step(&mut self) -> Result<Option<u64>> {
        let instruction = *self.program.get(self.next).context("behind the end")?;
        self.trace.push((self.way.len() - 1, self.next));
        self.next += 1;
        ensure!(self.trace.len() < LIMIT, "no end is in sight");
        match instruction {
            Instruction::Alu(width, operation, register, operand) => {
                let operand = self.value(operand);
                let result = operation.apply(width, self.registers[register], operand);
                self.registers[register] = result;
            }
            Instruction::Constant(register, constant) => {
                self.registers[register] = self.constant(constant)?;
                self.next += 1;
            }
            Instruction::Second => bail!("the second half of a constant"),
            Instruction::Load(size, signed, register, (base, offset)) => {
                let address = self.address(base, offset);
                let value = self.memory.load(address, size)?;
                self.registers[register] = if signed {
                    extend_bytes(value, size)
                } else {
                    value
                };
            }
            Instruction::Store(size, (base, offset), operand) => {
                let (address, value) = (self.address(base, offset), self.value(operand));
                self.memory.store(address, size, value)?;
            }
            Instruction::Atomic(size, what, (base, offset), source) => {
                self.atomic(size, what, self.address(base, offset), source)?;
            }
            Instruction::Jump(slots) => self.jump(slots)?,
            Instruction::Branch(width, condition, register, operand, slots) => {
                let operand = self.value(operand);
                if condition.holds(width, self.registers[register], operand) {
                    self.jump(slots.into())?;
                }
            }
            Instruction::Helper(id::TAIL_CALL) => self.tail_call()?,
            Instruction::Helper(id) => {
                self.calls += 1;
                let [_, a, b, c, d, e, ..] = self.registers;
                let arguments = [a, b, c, d, e];
                let result = helper::call(&mut self.memory, self.world, id, arguments)?;
                self.registers[0] = result;
            }
            Instruction::Local(slots) => self.call(slots)?,
            Instruction::Exit => return Ok(self.leave()),
        }
        Ok(None)
    }

    fn value(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Register(register) => self.registers[register],
            Operand::Immediate(value) => value,
        }
    }

    fn constant(&self, constant: Constant) -> Result<u64> {
        let (map, value) = match constant {
            Constant::Number(value) => return Ok(value),
            Constant::Map(map) => (map, Memory::handle(map)),
            Constant::Global(map, offset) => (map, Memory::values(map) + u64::from(offset)),
        };
        ensure!(map < self.memory.maps.len(), "no map {map}");
        Ok(value)
    }

    fn address(&self, base: usize, offset: i16) -> u64 {
        self.registers[base].wrapping_add_signed(offset.into())
    }

    fn jump(&mut self, slots: i32) -> Result<()> {
        let next = self.next.checked_add_signed(slots as isize);
        self.next = next.context("a jump in front of the program")?;
        Ok(())
    }

    fn atomic(&mut self, size: usize, what: Atomic, address: u64, source: usize) -> Result<()> {
        let old = self.memory.load(address, size)?;
        let operand = self.registers[source];
        let mut fetched = Some(source);
        let new = match what {
            Atomic::Combine(operation, fetches) => {
                fetched = fetched.filter(|_| fetches);
                operation.apply(super::alu::Width::W64, old, operand)
            }
            Atomic::Exchange => operand,
            Atomic::CompareExchange => {
                fetched = Some(0);
                let mask = u64::MAX >> (64 - 8 * size);
                let same = old == self.registers[0] & mask;
                if same { operand } else { old }
            }
        };
        self.memory.store(address, size, new)?;
        if let Some(register) = fetched {
            self.registers[register] = old;
        }
        Ok(())
    }

    /// Replaces the program by another, if there is one.
    fn tail_call(&mut self) -> Result<()> {
        self.calls += 1;
        let [_, context, handle, index, ..] = self.registers;
        let map = self.memory.map_of(handle)?;
        let Some(name) = self.memory.maps[map].program(index as u32) else {
            self.registers[0] = -2_i64 as u64;
            return Ok(());
        };
        ensure!(self.way.len() <= TAIL_CALLS, "too many tail calls");
        self.program = find(self.programs, name)?;
        self.way.push(name.to_owned());
        self.registers[1] = context;
        self.next = 0;
        Ok(())
    }

    /// Calls a function of the program's own.
    fn call(&mut self, slots: i32) -> Result<()> {
        let [.., six, seven, eight, nine, _] = self.registers;
        self.callers.push(Caller {
            program: Arc::clone(&self.program),
            next: self.next,
            kept: [six, seven, eight, nine],
        });
        ensure!(self.callers.len() < DEPTH, "too many calls within calls");
        self.registers[10] = Memory::frame_end(self.callers.len());
        self.jump(slots)
    }

    /// Returns to the caller, or ends the program.
    fn leave(&mut self) -> Option<u64> {
        let Some(caller) = self.callers.pop() else {
            return Some(self.registers[0]);
        };
        self.program = caller.program;
        self.next = caller.next;
        self.registers[6..10].copy_from_slice(&caller.kept);
        self.registers[10] = Memory::frame_end(self.callers.len());
        None
    }
}
