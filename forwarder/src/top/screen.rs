//! The terminal, which is left as it was: also after a panic, and when a signal ends the process.

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEvent},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{app::App, view};

/// How long a signal waits for the loop to see it.
const GRACE: Duration = Duration::from_secs(1);

/// The terminal while it shows us; dropping this gives it back.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// The signal that came; 0 for none.
    signal: Arc<AtomicI32>,
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
        let signal = Arc::new(AtomicI32::new(0));
        let mut signals =
            Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot watch for signals")?;
        let place = Arc::clone(&signal);
        let _detached = thread::spawn(move || {
            for number in &mut signals {
                place.store(number, Ordering::Relaxed);
                thread::sleep(GRACE);
                // Still here: whoever should have looked is stuck.
                ratatui::restore();
                let _dies = signal_hook::low_level::emulate_default_handler(number);
            }
        });
        // Its panic hook restores the terminal before the message is written.
        let terminal = ratatui::try_init().context("cannot use the terminal")?;
        Ok(Self { terminal, signal })
    }

    pub(super) fn draw(&mut self, app: &App) -> io::Result<()> {
        self.terminal
            .draw(|frame| view::draw(frame, app))
            .map(|_| ())
    }

    /// The next key, if one is pressed within `limit`.
    ///
    /// # Errors
    /// The terminal is gone. crossterm must not be asked then: it would try to read for good.
    pub(super) fn key(&self, limit: Duration) -> io::Result<Option<KeyEvent>> {
        // What has been read with an earlier key is not on the terminal any more.
        for limit in [Duration::ZERO, limit] {
            wait(limit)?;
            if event::poll(Duration::ZERO)? {
                return Ok(match event::read()? {
                    Event::Key(key) => Some(key),
                    // Another size: drawing asks for it.
                    _ => None,
                });
            }
        }
        Ok(None)
    }

    /// The signal that wants this process to end, if one has come.
    pub(super) fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }
}

/// Waits until something is typed.
fn wait(limit: Duration) -> io::Result<()> {
    let stdin = io::stdin();
    let mut descriptors = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut descriptors, limit) {
        // A signal is looked at by whoever called.
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    match descriptors[0].revents() {
        Some(events) if events.intersects(gone) => Err(io::ErrorKind::BrokenPipe.into()),
        _ => Ok(()),
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
