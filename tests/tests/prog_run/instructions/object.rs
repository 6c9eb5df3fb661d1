//! The programs as they are handed to the kernel.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use forwarder::datapath;
use tests::machine::Programs;
use tests::machine::instruction::{Constant, Instruction, decode};

use super::profile::{self, Lines};

/// The programs, in which maps have numbers in place of descriptors.
pub struct Code {
    /// By name.
    pub programs: Programs,
    /// The names of the maps by number.
    pub maps: Vec<String>,
    /// The lines of the source that the programs are of, by program.
    pub lines: BTreeMap<String, Lines>,
}

impl Code {
    /// The maps that a program uses, in the order of its code: the order in which the kernel lists them, of whose names
    /// it keeps 15 bytes.
    pub fn uses(&self, program: &str) -> Vec<usize> {
        let mut uses = Vec::new();
        for instruction in self.programs[program].iter() {
            if let Instruction::Constant(_, Constant::Map(map) | Constant::Global(map, _)) =
                instruction
                && !uses.contains(map)
            {
                uses.push(*map);
            }
        }
        uses
    }
}

/// Those of the forwarder's object.
pub fn code() -> &'static Code {
    static CODE: OnceLock<Code> = OnceLock::new();
    CODE.get_or_init(|| read(datapath::object()).expect("the object that is loaded in every test"))
}

/// Does what aya does before it loads a program.
fn read(bytes: &[u8]) -> Result<Code> {
    let mut object = Object::parse(bytes)?;
    let maps = std::mem::take(&mut object.maps);
    let mut names: Vec<String> = maps.keys().cloned().collect();
    names.sort();
    let sections = object.functions.keys().map(|(section, _)| *section);
    let text: HashSet<usize> = sections.collect();
    let numbered = names.iter().zip(0..);
    object.relocate_maps(
        numbered.map(|(name, number)| (name.as_str(), number, &maps[name])),
        &text,
    )?;
    object.relocate_calls(&text)?;
    let mut programs = Programs::new();
    for (name, program) in &object.programs {
        let function = object.functions.get(&program.function_key());
        let function = function.with_context(|| format!("{name} has no code"))?;
        let slots: Vec<_> = function.instructions.iter().map(slot).collect();
        let decoded = decode(&slots).with_context(|| format!("decoding {name}"))?;
        programs.insert(name.clone(), decoded.into());
    }
    Ok(Code {
        lines: profile::lines(&object),
        programs,
        maps: names,
    })
}

fn slot(instruction: &bpf_insn) -> [u8; 8] {
    let registers = instruction.dst_reg() | instruction.src_reg() << 4;
    let [low, high] = instruction.off.to_le_bytes();
    let [a, b, c, d] = instruction.imm.to_le_bytes();
    [instruction.code, registers, low, high, a, b, c, d]
}
