//! `forwarder top`: rules, flows and reasons with their rates, over the control socket and nothing else.

mod app;
mod model;
mod sample;
mod screen;
mod view;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, thread, time::Duration};

use anyhow::Context as _;
use ratatui::{Terminal, backend::TestBackend};

pub use app::{App, Next, Pane};
pub use model::{DropRow, FlowRow, Model, RuleRow};
pub use sample::Sample;
pub use view::draw;

use sample::Sampler;
use screen::Screen;

/// How long a key waits at most until the screen shows what has come meanwhile.
const TICK: Duration = Duration::from_millis(100);

/// Shows the daemon on `socket` until it is told to stop.
///
/// # Errors
/// There is no terminal, or no daemon at the start. One that goes away later is waited for.
pub fn run(socket: PathBuf, interval: Duration) -> anyhow::Result<()> {
    let first = Sample::take(&socket)?;
    let mut app = App::default();
    app.take(Ok(first));
    let mut screen = Screen::open()?;
    let ended = watch(&mut screen, &mut app, &Sampler::start(socket, interval));
    let signal = screen.signal();
    // The terminal is itself again before anything is said on it.
    drop(screen);
    if let Some(signal) = signal {
        signal_hook::low_level::emulate_default_handler(signal)?;
    }
    ended.context("cannot use the terminal")
}

fn watch(screen: &mut Screen, app: &mut App, sampler: &Sampler) -> io::Result<()> {
    while screen.signal().is_none() {
        while let Some(sample) = sampler.next() {
            app.take(sample.map_err(|error| error.to_string()));
        }
        screen.draw(app)?;
        if let Some(key) = screen.key(TICK)?
            && app.press(key) == Next::Quit
        {
            break;
        }
    }
    Ok(())
}

/// One look: the rates over `interval`.
///
/// # Errors
/// There is no daemon.
pub fn once(socket: &std::path::Path, interval: Duration) -> anyhow::Result<App> {
    let mut app = App::default();
    app.take(Ok(Sample::take(socket)?));
    thread::sleep(interval);
    app.take(Ok(Sample::take(socket)?));
    Ok(app)
}

/// What a terminal of this width would show, with every row.
///
/// # Errors
/// Never, but drawing can fail.
pub fn text(app: &App, width: u16) -> anyhow::Result<String> {
    let rows = app.model.rules.len() + app.model.flows.len() + app.model.drops.len();
    // Each table gets its share of the height, so the one with most rows decides.
    let height = u16::try_from(4 * rows + 40).unwrap_or(u16::MAX).min(4000);
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| draw(frame, app))?;
    let lines = lines(terminal.backend().buffer());
    let mut text = String::new();
    // The line of keys is of no use here, nor is what is left empty.
    for line in lines.iter().take(usize::from(height) - 1) {
        if !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// What stands on each line, without blanks at the end.
fn lines(buffer: &ratatui::buffer::Buffer) -> Vec<String> {
    let area = buffer.area;
    let line = |y| {
        let cells = (0..area.width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..area.height).map(line).collect()
}
