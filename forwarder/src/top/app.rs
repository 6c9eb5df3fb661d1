//! What the keys have made of the view.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    model::{DropRow, FlowRow, Model, RuleRow},
    sample::Sample,
};

/// One of the three tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    /// Rules.
    #[default]
    Rules,
    /// Flows.
    Flows,
    /// Reasons.
    Drops,
}

impl Pane {
    /// All of them, from top to bottom.
    pub const ALL: [Self; 3] = [Self::Rules, Self::Flows, Self::Drops];

    /// What it can be sorted by, the first at the start.
    pub(super) fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Rules => &["packets", "bits", "new flows", "flows", "name"],
            Self::Flows => &["bits", "packets", "bytes", "age", "idle", "client"],
            Self::Drops => &["rate", "packets", "reason"],
        }
    }
}

/// Everything but the terminal.
#[derive(Debug, Default)]
pub struct App {
    /// What is shown.
    pub model: Model,
    /// The pane that keys are for.
    pub focus: Pane,
    /// Whether it is the only one.
    pub zoomed: bool,
    /// Index into its orders, by pane.
    pub order: [usize; 3],
    /// Whether the smallest comes first, by pane.
    pub reversed: [bool; 3],
    /// The first row that is shown, by pane.
    pub scroll: [usize; 3],
    /// Only rows that contain this.
    pub filter: String,
    /// Whether keys go into the filter.
    pub typing: bool,
    /// Whether samples are let pass.
    pub paused: bool,
    /// Whether the keys are explained.
    pub help: bool,
    /// Why there is nothing new.
    pub problem: Option<String>,
}

/// What a key asks of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To go on.
    Stay,
    /// To end.
    Quit,
}

impl App {
    /// Takes a sample, or the sentence about why there is none.
    pub fn take(&mut self, sample: Result<Sample, String>) {
        match sample {
            Ok(sample) => {
                self.problem = None;
                if !self.paused {
                    self.model.add(sample);
                }
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Does what a key is for.
    pub fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Stay;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Next::Quit;
        }
        if self.typing {
            self.type_into_filter(key.code);
        } else if self.help {
            // Whatever key it is: it has been read.
            self.help = false;
        } else {
            return self.command(key.code);
        }
        Next::Stay
    }

    fn type_into_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        self.scroll = [0; 3];
    }

    fn command(&mut self, key: KeyCode) -> Next {
        let pane = self.focus as usize;
        let scroll = &mut self.scroll[pane];
        match key {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('s') => {
                self.order[pane] = (self.order[pane] + 1) % self.focus.orders().len();
            }
            KeyCode::Char('r') => self.reversed[pane] = !self.reversed[pane],
            KeyCode::Char('z') | KeyCode::Enter => self.zoomed = !self.zoomed,
            KeyCode::Tab => self.focus = Pane::ALL[(pane + 1) % 3],
            KeyCode::BackTab => self.focus = Pane::ALL[(pane + 2) % 3],
            KeyCode::Char(digit @ '1'..='3') => {
                self.focus = Pane::ALL[digit as usize - '1' as usize]
            }
            KeyCode::Down | KeyCode::Char('j') => *scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
            KeyCode::PageDown => *scroll += 10,
            KeyCode::PageUp => *scroll = scroll.saturating_sub(10),
            KeyCode::Home => *scroll = 0,
            _ => {}
        }
        Next::Stay
    }

    /// What a pane is sorted by.
    pub(super) fn order_of(&self, pane: Pane) -> &'static str {
        pane.orders()[self.order[pane as usize]]
    }

    /// The rules that are shown, in order.
    pub(super) fn rules(&self) -> Vec<&RuleRow> {
        let order = self.order_of(Pane::Rules);
        let rows = self.model.rules.iter();
        let rows = rows.filter(|row| self.takes(&[&row.name]));
        self.sorted(Pane::Rules, rows, |row| match order {
            "bits" => Key::Number(row.bits),
            "new flows" => Key::Number(row.opened),
            "flows" => Key::Number(row.flows as f64),
            "name" => Key::Text(&row.name),
            _ => Key::Number(row.packets),
        })
    }

    /// The flows that are shown, in order.
    pub(super) fn flows(&self) -> Vec<&FlowRow> {
        let order = self.order_of(Pane::Flows);
        let rows = self.model.flows.iter().filter(|row| {
            self.takes(&[
                &row.rule,
                &row.client,
                &row.listener,
                &row.backend,
                &row.state,
                &row.protocol,
            ])
        });
        self.sorted(Pane::Flows, rows, |row| match order {
            "packets" => Key::Number(row.packets),
            "bytes" => Key::Number(row.bytes as f64),
            "age" => Key::Number(row.age as f64),
            "idle" => Key::Number(row.idle as f64),
            "client" => Key::Text(&row.client),
            _ => Key::Number(row.bits),
        })
    }

    /// The reasons that are shown, in order.
    pub(super) fn drops(&self) -> Vec<&DropRow> {
        let order = self.order_of(Pane::Drops);
        let rows = self.model.drops.iter();
        let rows = rows.filter(|row| self.takes(&[&row.reason, &row.verdict, &row.last]));
        self.sorted(Pane::Drops, rows, |row| match order {
            "packets" => Key::Number(row.packets as f64),
            "reason" => Key::Text(&row.reason),
            _ => Key::Number(row.rate),
        })
    }

    fn takes(&self, texts: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        texts
            .iter()
            .any(|text| text.to_lowercase().contains(&wanted))
    }

    /// Names from A on, numbers from the largest; rows that are alike stay as they were.
    fn sorted<'a, T>(
        &self,
        pane: Pane,
        rows: impl Iterator<Item = &'a T>,
        key: impl Fn(&'a T) -> Key<'a>,
    ) -> Vec<&'a T> {
        let mut rows: Vec<&T> = rows.collect();
        rows.sort_by(|one, other| match (key(one), key(other)) {
            (Key::Number(one), Key::Number(other)) => other.total_cmp(&one),
            (Key::Text(one), Key::Text(other)) => one.cmp(other),
            _ => std::cmp::Ordering::Equal,
        });
        if self.reversed[pane as usize] {
            rows.reverse();
        }
        rows
    }
}

/// What a row is sorted by.
enum Key<'a> {
    Number(f64),
    Text(&'a str),
}
