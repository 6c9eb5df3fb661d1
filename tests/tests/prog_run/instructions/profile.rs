//! Which lines of the source a packet's instructions are of.

use std::collections::BTreeMap;

use aya_obj::Object;
use tests::machine::Outcome;

use super::object::code;

/// Names a packet of the record, as in `udp_cached`, whose lines are to be printed.
const VARIABLE: &str = "INSTRUCTION_PROFILE";

/// The lines of a program, each with the slot that it begins at.
pub type Lines = BTreeMap<usize, String>;

/// The lines of every program in an object whose programs have been linked.
pub fn lines(object: &Object) -> BTreeMap<String, Lines> {
    let strings = object.btf.as_ref().map(|btf| Strings::of(&btf.to_bytes()));
    let strings = strings.flatten().unwrap_or_default();
    let mut programs = BTreeMap::new();
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let mut lines = Lines::new();
        for line in &function.line_info.line_info {
            let file = strings.at(line.file_name_off);
            // The lower bits are the column.
            let text = format!("{}:{}", within(&file), line.line_col >> 10);
            lines.insert(line.insn_off as usize, text);
        }
        programs.insert(name.clone(), lines);
    }
    programs
}

/// A file's path from its crate on.
fn within(file: &str) -> &str {
    let Some((before, _)) = file.rsplit_once("/src/") else {
        return file;
    };
    let start = before.rfind('/').map_or(0, |slash| slash + 1);
    &file[start..]
}

/// The strings of an object's BTF.
#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    /// Out of BTF as it is in a file: `struct btf_header` says where they are.
    fn of(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
        let (header, start, length) = (word(4)?, word(16)?, word(20)?);
        Some(Self(bytes.get(header + start..)?.get(..length)?.to_vec()))
    }

    fn at(&self, offset: u32) -> String {
        let bytes = self.0.get(offset as usize..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&bytes[..end.unwrap_or(0)]).into_owned()
    }
}

/// Prints where the instructions of the packet `name` went, if that is asked for. Those of other crates' lines, as in a
/// copy of bytes, are put down to the line of ours that came before.
pub fn show(name: &str, outcome: &Outcome) {
    if std::env::var_os(VARIABLE).is_none_or(|wanted| wanted != name) {
        return;
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut ours = "before the first line";
    for (program, slot) in &outcome.trace {
        let lines = &code().lines[&outcome.way[*program]];
        let line = lines.range(..=slot).next_back();
        if let Some((_, line)) = line.filter(|(_, line)| line.starts_with("forwarder")) {
            ours = line;
        }
        *counts.entry(ours).or_default() += 1;
    }
    let mut counts: Vec<_> = counts
        .into_iter()
        .map(|(line, count)| (count, line))
        .collect();
    counts.sort_unstable_by(|one, other| other.cmp(one));
    println!("{name}, by way of {}:", outcome.way.join(", "));
    for (count, line) in counts {
        println!("{count:6}  {line}");
    }
}
