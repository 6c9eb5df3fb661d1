//! Everything a program has a pointer to. Addresses are made up: a kind of memory in the upper bits, a place in the
//! lower ones. Those of packets fit into 32 bits, because that is what a context has room for.

use anyhow::{Context as _, Result, bail};

use super::map::Map;
use super::packet::Packet;

/// The context's first byte.
pub const CONTEXT: u64 = 0x1000_0000;
/// The first byte of the packet's buffer.
pub const PACKET: u64 = 0x2000_0000;
/// The lowest byte of the stack.
const STACK: u64 = 0x3000_0000;
/// What a program has in place of a map; there is nothing to be read there.
const MAP: u64 = 0x4000_0000;
/// Bytes between two kinds of memory.
const KIND: u64 = 0x1000_0000;
/// Values of the first map; each further map's are as far apart.
const VALUES: u64 = 1 << 32;

/// Bytes of a function's stack.
const FRAME: usize = 512;
/// Functions that may call each other.
pub const DEPTH: usize = 8;

/// What is at an address.
enum Place {
    Context(usize),
    Packet(usize),
    Stack(usize),
    /// In a map, in one of its values, so many bytes from the start.
    Value(usize, usize, usize),
}

/// The memory of one run.
#[derive(Clone, Debug)]
pub struct Memory {
    /// The packet, and the context that describes it.
    pub packet: Packet,
    /// The maps.
    pub maps: Vec<Map>,
    stack: Vec<u8>,
}

impl Memory {
    /// With an empty stack.
    #[must_use]
    pub fn new(packet: Packet, maps: Vec<Map>) -> Self {
        let stack = vec![0; FRAME * DEPTH];
        Self {
            packet,
            maps,
            stack,
        }
    }

    /// The end of the stack of a function that so many others wait for.
    #[must_use]
    pub fn frame_end(depth: usize) -> u64 {
        STACK + (FRAME * (depth + 1)) as u64
    }

    /// What stands for a map.
    #[must_use]
    pub fn handle(map: usize) -> u64 {
        MAP + map as u64
    }

    /// The map that a handle stands for.
    ///
    /// # Errors
    /// It stands for none.
    pub fn map_of(&self, handle: u64) -> Result<usize> {
        let map = handle
            .checked_sub(MAP)
            .and_then(|it| usize::try_from(it).ok());
        map.filter(|map| *map < self.maps.len())
            .with_context(|| format!("{handle:#x} is no map"))
    }

    /// Address of a value in a map.
    #[must_use]
    pub fn value(&self, map: usize, place: usize) -> u64 {
        let stride = self.maps[map].shape.value.next_multiple_of(8);
        Self::values(map) + (place * stride) as u64
    }

    /// Address of a map's first value.
    #[must_use]
    pub fn values(map: usize) -> u64 {
        VALUES * (map as u64 + 1)
    }

    fn place(&self, address: u64) -> Result<Place> {
        let offset = |base: u64| (address - base) as usize;
        if address >= VALUES {
            let map = (address / VALUES - 1) as usize;
            let stride = self
                .maps
                .get(map)
                .map(|map| map.shape.value.next_multiple_of(8));
            let stride = stride
                .filter(|stride| *stride != 0)
                .context("no such map")?;
            let within = (address % VALUES) as usize;
            return Ok(Place::Value(map, within / stride, within % stride));
        }
        Ok(match address / KIND * KIND {
            CONTEXT => Place::Context(offset(CONTEXT)),
            PACKET => Place::Packet(offset(PACKET)),
            STACK => Place::Stack(offset(STACK)),
            _ => bail!("nothing is there"),
        })
    }

    /// `length` bytes at `address`.
    ///
    /// # Errors
    /// They are not all within one piece of memory.
    pub fn bytes(&self, address: u64, length: usize) -> Result<&[u8]> {
        let found = match self.place(address)? {
            Place::Context(offset) => self.packet.context(offset, length),
            Place::Packet(offset) => self.packet.bytes(offset, length),
            Place::Stack(offset) => self.stack.get(offset..offset + length),
            Place::Value(map, place, offset) => self.maps[map].bytes(place, offset, length),
        };
        found.with_context(|| format!("{length} bytes at {address:#x} are out of bounds"))
    }

    /// As [`Memory::bytes`], to be written.
    ///
    /// # Errors
    /// As [`Memory::bytes`].
    pub fn bytes_mut(&mut self, address: u64, length: usize) -> Result<&mut [u8]> {
        let found = match self.place(address)? {
            Place::Context(offset) => self.packet.context_mut(offset, length),
            Place::Packet(offset) => self.packet.bytes_mut(offset, length),
            Place::Stack(offset) => self.stack.get_mut(offset..offset + length),
            Place::Value(map, place, offset) => self.maps[map].bytes_mut(place, offset, length),
        };
        found.with_context(|| format!("{length} bytes at {address:#x} are out of bounds"))
    }

    /// An integer of so many bytes.
    ///
    /// # Errors
    /// As [`Memory::bytes`].
    pub fn load(&self, address: u64, size: usize) -> Result<u64> {
        let mut value = [0; 8];
        value[..size].copy_from_slice(self.bytes(address, size)?);
        Ok(u64::from_le_bytes(value))
    }

    /// Writes an integer of so many bytes.
    ///
    /// # Errors
    /// As [`Memory::bytes`].
    pub fn store(&mut self, address: u64, size: usize, value: u64) -> Result<()> {
        let value = &value.to_le_bytes()[..size];
        self.bytes_mut(address, size)?.copy_from_slice(value);
        Ok(())
    }
}
