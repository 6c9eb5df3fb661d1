//! Maps as a program sees them: one CPU's part of those that have a part for each.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

/// How a map finds what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By index, all of it there from the beginning.
    Array,
    /// By key.
    Hash,
    /// By key, and displaces something when it is full, which is not modelled.
    LruHash,
    /// By the longest prefix.
    PrefixTree,
    /// Programs by index.
    Programs,
    /// Of whatever else: nothing can be done with it.
    Other,
}

/// Sizes and kind of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// See [`Kind`].
    pub kind: Kind,
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value.
    pub value: usize,
    /// The most entries it can have.
    pub entries: u32,
}

/// A map with its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Its sizes and kind.
    pub shape: Shape,
    /// Where each key's value is, in values.
    places: BTreeMap<Vec<u8>, usize>,
    /// The values, of which those removed stay until the program ends, as a pointer to one may.
    values: Vec<u8>,
    /// The programs of a map of these.
    programs: BTreeMap<u32, String>,
}

/// A key, and what two maps have for it.
pub type Difference<'a> = (Vec<u8>, Option<&'a [u8]>, Option<&'a [u8]>);

/// `EEXIST`, `ENOENT` and `E2BIG` as helpers return them.
const EXISTS: i64 = -17;
const ABSENT: i64 = -2;
const FULL: i64 = -7;

/// `BPF_NOEXIST` and `BPF_EXIST` in include/uapi/linux/bpf.h.
const IF_ABSENT: u64 = 1;
const IF_THERE: u64 = 2;

impl Map {
    /// An empty map; an array has its values, which are zero.
    #[must_use]
    pub fn new(name: &str, shape: Shape) -> Self {
        let length = match shape.kind {
            Kind::Array => shape.value * shape.entries as usize,
            _ => 0,
        };
        Self {
            name: name.to_owned(),
            shape,
            places: BTreeMap::new(),
            values: vec![0; length],
            programs: BTreeMap::new(),
        }
    }

    /// Puts a program into a map of these.
    pub fn insert_program(&mut self, index: u32, name: &str) {
        self.programs.insert(index, name.to_owned());
    }

    /// The program at `index`.
    #[must_use]
    pub fn program(&self, index: u32) -> Option<&str> {
        self.programs.get(&index).map(String::as_str)
    }

    /// Gives an array its values, one behind the other.
    ///
    /// # Errors
    /// They are not as many as it has.
    pub fn fill(&mut self, values: Vec<u8>) -> Result<()> {
        let fits = self.shape.kind == Kind::Array && values.len() == self.values.len();
        ensure!(fits, "{} bytes for the map {}", values.len(), self.name);
        self.values = values;
        Ok(())
    }

    /// The first entry of which this map and `other`, of the same shape, have different ones: the key, what this one
    /// has, and what the other has.
    #[must_use]
    pub fn difference<'a>(&'a self, other: &'a Self) -> Option<Difference<'a>> {
        if self.shape.kind == Kind::Array {
            let size = self.shape.value.max(1);
            let mut pairs = self.values.chunks(size).zip(other.values.chunks(size));
            let at = pairs.position(|(ours, theirs)| ours != theirs)?;
            let value = |map: &'a Self| map.bytes(at, 0, size);
            return Some((
                (at as u32).to_ne_bytes().to_vec(),
                value(self),
                value(other),
            ));
        }
        self.places
            .keys()
            .chain(other.places.keys())
            .map(|key| (key.clone(), self.get(key), other.get(key)))
            .find(|(_, ours, theirs)| ours != theirs)
    }

    /// The value of exactly this key.
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.bytes(*self.places.get(key)?, 0, self.shape.value)
    }

    /// The place of what `key` leads to.
    ///
    /// # Errors
    /// Nothing can be looked up in a map of this kind.
    pub fn find(&self, key: &[u8]) -> Result<Option<usize>> {
        match self.shape.kind {
            Kind::PrefixTree => self.longest(key),
            _ => self.exact(key),
        }
    }

    /// As [`Map::find`] of exactly this key.
    fn exact(&self, key: &[u8]) -> Result<Option<usize>> {
        Ok(match self.shape.kind {
            Kind::Array => {
                let index = u32::from_ne_bytes(key.try_into()?);
                (index < self.shape.entries).then_some(index as usize)
            }
            Kind::Hash | Kind::LruHash | Kind::PrefixTree => self.places.get(key).copied(),
            Kind::Programs | Kind::Other => bail!("nothing is looked up in the map {}", self.name),
        })
    }

    /// The place of the longest prefix that `key` begins with and that is not longer than it. A key is a length in
    /// bits and the bytes.
    fn longest(&self, key: &[u8]) -> Result<Option<usize>> {
        let (length, bytes) = prefix(key)?;
        let mut found = None;
        for (candidate, place) in &self.places {
            let (bits, begins) = prefix(candidate)?;
            let longer = found.is_none_or(|(longest, _)| bits > longest);
            if bits <= length && longer && agree(begins, bytes, bits) {
                found = Some((bits, *place));
            }
        }
        Ok(found.map(|(_, place)| place))
    }

    /// Gives `key` a value. What the helper returns.
    ///
    /// # Errors
    /// The map would have to displace something, or is of another kind.
    pub fn update(&mut self, key: &[u8], value: &[u8], flags: u64) -> Result<i64> {
        let size = self.shape.value;
        ensure!(value.len() == size, "a value of another size");
        let place = match (self.exact(key)?, flags) {
            (Some(_), IF_ABSENT) => return Ok(EXISTS),
            (None, IF_THERE) => return Ok(ABSENT),
            (Some(place), _) => place,
            (None, _) if self.shape.kind == Kind::Array => return Ok(FULL),
            (None, _) => {
                if self.places.len() >= self.shape.entries as usize {
                    ensure!(
                        self.shape.kind != Kind::LruHash,
                        "the map {} is full, and what it displaces is not modelled",
                        self.name
                    );
                    return Ok(FULL);
                }
                self.values.resize(self.values.len() + size, 0);
                self.values.len() / size - 1
            }
        };
        if self.shape.kind != Kind::Array {
            self.places.insert(key.to_owned(), place);
        }
        self.values[place * size..][..size].copy_from_slice(value);
        Ok(0)
    }

    /// Removes `key`. What the helper returns.
    pub fn remove(&mut self, key: &[u8]) -> i64 {
        match self.places.remove(key) {
            Some(_) => 0,
            None => ABSENT,
        }
    }

    /// `length` bytes from `offset` on in the value at `place`, if they are within it.
    #[must_use]
    pub fn bytes(&self, place: usize, offset: usize, length: usize) -> Option<&[u8]> {
        let start = self.start(place, offset, length)?;
        self.values.get(start..start + length)
    }

    /// As [`Map::bytes`], to be written.
    pub fn bytes_mut(&mut self, place: usize, offset: usize, length: usize) -> Option<&mut [u8]> {
        let start = self.start(place, offset, length)?;
        self.values.get_mut(start..start + length)
    }

    fn start(&self, place: usize, offset: usize, length: usize) -> Option<usize> {
        let inside = offset.checked_add(length)? <= self.shape.value;
        inside.then(|| place * self.shape.value + offset)
    }
}

/// The length in bits, and the bytes.
fn prefix(key: &[u8]) -> Result<(u32, &[u8])> {
    let Some((length, bytes)) = key.split_first_chunk() else {
        bail!("a key without a length");
    };
    Ok((u32::from_ne_bytes(*length), bytes))
}

/// Whether both begin with the same `bits`.
fn agree(left: &[u8], right: &[u8], bits: u32) -> bool {
    let (whole, rest) = (bits as usize / 8, bits % 8);
    let mask = !(0xff_u8 >> rest);
    left[..whole] == right[..whole] && (rest == 0 || (left[whole] ^ right[whole]) & mask == 0)
}
