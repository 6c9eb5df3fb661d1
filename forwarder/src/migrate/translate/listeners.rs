//! From what becomes of every kind of packets to listeners.
//!
//! iptables takes the first rule that holds, the forwarder the most specific listener: an address before any address,
//! then a device before any device. A listener is written for every kind of packets that would otherwise meet the wrong
//! one, and where none can be written the wider one is not, either.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::{Listen, PortRange, Protocol};
use crate::migrate::journal::{Journal, Kind};

use super::cells::{Cell, Field, Met};
use super::joined::{absorb, both_protocols, joined};
use super::outcome::{Forward, Outcome};

/// A listener and what it does.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub protocols: Vec<Protocol>,
    pub interface: Option<String>,
    pub listen: Listen,
    pub forward: Forward,
}

/// All listeners of a ruleset.
pub(super) struct Listeners {
    pub all: Vec<Listener>,
    /// Whether rules are for devices that none of them names.
    pub elsewhere: bool,
}

pub(super) fn find(field: &Field, met: &mut Met, journal: &mut Journal) -> Listeners {
    let mut found = Listeners {
        all: Vec::new(),
        elsewhere: false,
    };
    for protocol in Protocol::ALL {
        let mut sheet = Sheet {
            field,
            protocol,
            found: Vec::new(),
            elsewhere: false,
        };
        sheet.fill(met, journal);
        found.elsewhere |= sheet.elsewhere;
        found.all.extend(joined(sheet.found));
    }
    found.all = both_protocols(found.all);
    found
}

/// The listeners of one protocol.
struct Sheet<'a, 'f> {
    field: &'a Field<'f>,
    protocol: Protocol,
    found: Vec<Listener>,
    elsewhere: bool,
}

/// Ports whose packets a listener on `*` would take from those to a named address; the position in the row.
type Block = (PortRange, usize);

impl Sheet<'_, '_> {
    fn fill(&mut self, met: &mut Met, journal: &mut Journal) {
        let mut cells = |address, edges: &[u16], journal: &mut Journal| {
            let kind = (self.protocol, address);
            self.field.cells(kind, edges, met, journal)
        };
        let mut any = cells(None, &[], journal);
        let edges: Vec<u16> = any.iter().map(|cell| cell.ports.first).collect();
        let mut named = BTreeMap::new();
        for address in self.field.named() {
            named.insert(*address, cells(Some(*address), &edges, journal));
        }
        let blocks = blocks(&any, &named, journal);
        if !blocks.is_empty() {
            any = apply(any, &blocks);
        }
        for cell in &any {
            self.any_address(cell);
        }
        for (address, cells) in named {
            for cell in cells {
                self.named_address(address, &cell, at(&any, cell.ports.first));
            }
        }
    }

    fn any_address(&mut self, cell: &Cell) {
        let Some((elsewhere, rest)) = cell.row.split_first() else {
            return;
        };
        let everywhere = whole(&cell.row).and(elsewhere.forward());
        if everywhere.is_some() {
            self.write(None, None, (cell, elsewhere));
        } else if elsewhere.forward().is_some() {
            self.elsewhere |= rest.iter().all(|outcome| outcome.forward().is_none());
        }
        for (name, outcome) in self.field.places.interfaces.iter().zip(rest) {
            if everywhere.is_none() || outcome != elsewhere {
                self.write(Some(name), None, (cell, outcome));
            }
        }
    }

    /// `wider` is what listeners on `*` do with the same ports.
    fn named_address(&mut self, address: IpAddr, cell: &Cell, wider: &Cell) {
        let Some((elsewhere, rest)) = cell.row.split_first() else {
            return;
        };
        let (wider_elsewhere, wider_rest) = match wider.row.split_first() {
            Some((first, rest)) => (first, rest),
            None => return,
        };
        let address = Some(address);
        // Where `*` does the same already, nothing needs to be written.
        let covered = effective(wider);
        let new_elsewhere = elsewhere.forward().is_some()
            && whole(&cell.row).is_some()
            && !(elsewhere == wider_elsewhere && covered.is_some());
        if new_elsewhere {
            self.write(None, address, (cell, elsewhere));
        } else if elsewhere.forward().is_some() && covered.is_none() {
            self.elsewhere |= rest.iter().all(|outcome| outcome.forward().is_none());
        }
        let names = self.field.places.interfaces.iter();
        for ((name, outcome), wide) in names.zip(rest).zip(wider_rest) {
            let there = if new_elsewhere { elsewhere } else { wide };
            if outcome != there {
                self.write(Some(name), address, (cell, outcome));
            }
        }
    }

    fn write(
        &mut self,
        interface: Option<&String>,
        address: Option<IpAddr>,
        (cell, outcome): (&Cell, &Outcome),
    ) {
        let Some(forward) = outcome.forward() else {
            return;
        };
        let mut forward = forward.clone();
        if interface.is_none() {
            // Rules that say the same for one device only have a part in it, too.
            let same = cell.row.iter().filter(|one| *one == outcome);
            for other in same.filter_map(Outcome::forward) {
                absorb(&mut forward, other.clone());
            }
        }
        self.found.push(Listener {
            protocols: vec![self.protocol],
            interface: interface.cloned(),
            listen: Listen {
                address,
                ports: cell.ports,
            },
            forward,
        });
    }
}

/// `Some` if packets are forwarded whatever the device.
fn whole(row: &[Outcome]) -> Option<()> {
    row.iter()
        .all(|outcome| outcome.forward().is_some())
        .then_some(())
}

/// What a listener on `*` without a device does, if there is one.
fn effective(cell: &Cell) -> Option<&Forward> {
    whole(&cell.row).and(cell.row.first()?.forward())
}

/// The cell of cells that cover all ports which has `port`.
fn at(cells: &[Cell], port: u16) -> &Cell {
    let after = cells.partition_point(|cell| cell.ports.first <= port);
    &cells[after.saturating_sub(1)]
}

/// Where `*` must not be written, since packets to a named address must not be taken and only a listener of their own
/// would keep them.
fn blocks(any: &[Cell], named: &BTreeMap<IpAddr, Vec<Cell>>, journal: &mut Journal) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (address, cells) in named {
        for cell in cells {
            let wider = at(any, cell.ports.first);
            for (position, (outcome, wide)) in cell.row.iter().zip(&wider.row).enumerate() {
                let (None, Some(forward)) = (outcome.forward(), wide.forward()) else {
                    continue;
                };
                blocks.push((cell.ports, position));
                for origin in &forward.origins {
                    let why = format!(
                        "it does not take port {} of {address}, and a listener for all addresses cannot leave one out",
                        cell.ports
                    );
                    journal.note(Kind::Untranslated, *origin, why);
                }
            }
        }
    }
    blocks
}

/// The cells with blocked parts cut out and stuck.
fn apply(cells: Vec<Cell>, blocks: &[Block]) -> Vec<Cell> {
    let mut edges: Vec<u16> = blocks
        .iter()
        .flat_map(|(ports, _)| [Some(ports.first), ports.last.checked_add(1)])
        .flatten()
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let mut parts = Vec::new();
    for cell in cells {
        let mut first = cell.ports.first;
        let inner = edges
            .iter()
            .filter(|edge| cell.ports.first < **edge && **edge <= cell.ports.last);
        for edge in inner {
            parts.push(Cell {
                ports: PortRange {
                    first,
                    last: edge - 1,
                },
                row: cell.row.clone(),
            });
            first = *edge;
        }
        parts.push(Cell {
            ports: PortRange {
                first,
                last: cell.ports.last,
            },
            row: cell.row,
        });
    }
    for (ports, position) in blocks {
        let from = parts.partition_point(|cell| cell.ports.last < ports.first);
        for cell in parts[from..]
            .iter_mut()
            .take_while(|cell| cell.ports.first <= ports.last)
        {
            cell.row[*position] = Outcome::Stuck;
        }
    }
    parts
}
