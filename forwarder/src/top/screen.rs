//! The terminal, which is left as it was: also after a panic, and when a signal ends the process.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEvent},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{app::App, view};

/// The terminal while it shows us; dropping this gives it back.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// The signal that came; 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn open() -> anyhow::Result<Self> {
        anyhow::ensure!(
            io::stdin().is_terminal() && io::stdout().is_terminal(),
            "`top` needs a terminal: take `forwarder top --once` or `--json` where there is none"
        );
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGHUP, SIGINT, SIGTERM] {
            let place = Arc::clone(&signal);
            signal_hook::flag::register_usize(number, place, number as usize)
                .context("cannot watch for signals")?;
        }
        // Its panic hook restores the terminal before the message is written.
        let terminal = ratatui::try_init().context("cannot use the terminal")?;
        Ok(Self { terminal, signal })
    }

    pub(super) fn draw(&mut self, app: &App) -> io::Result<()> {
        self.terminal
            .draw(|frame| view::draw(frame, app))
            .map(|_| ())
    }

    /// The next key, if one is pressed within `limit`; `None` also if the terminal has another size.
    pub(super) fn key(&self, limit: Duration) -> io::Result<Option<KeyEvent>> {
        if !event::poll(limit)? {
            return Ok(None);
        }
        match event::read()? {
            Event::Key(key) => Ok(Some(key)),
            _ => Ok(None),
        }
    }

    /// The signal that wants this process to end, if one has come.
    pub(super) fn signal(&self) -> Option<i32> {
        let number = self.signal.load(Ordering::Relaxed);
        i32::try_from(number).ok().filter(|number| *number != 0)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
