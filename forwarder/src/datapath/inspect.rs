//! What is in the kernel, for tools that look into it.

use super::{Datapath, object::OBJECT};

/// A program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedProgram {
    /// Its whole name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// The kernel's number of it.
    pub id: u32,
    /// The kernel's numbers of the maps that it uses.
    pub maps: Vec<u32>,
}

/// The eBPF object that a datapath is loaded from: an ELF file.
pub fn object() -> &'static [u8] {
    OBJECT
}

impl Datapath {
    /// Every program that is loaded.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn loaded(&self) -> anyhow::Result<Vec<LoadedProgram>> {
        let mut loaded = Vec::new();
        for (name, program) in self.programs.all() {
            if program.fd().is_err() {
                continue;
            }
            let info = program.info()?;
            loaded.push(LoadedProgram {
                name: name.to_owned(),
                id: info.id(),
                maps: info.map_ids()?.unwrap_or_default(),
            });
        }
        Ok(loaded)
    }
}
