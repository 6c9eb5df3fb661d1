//! `forwarder top` on a real terminal, and without one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rstest::rstest;
use tests::process::{output, wait_for, wait_until};
use tests::responder::{Server, connect, echo, tcp_exchange};
use tests::scenario::engines::TC;
use tests::scenario::{Forwarder, Rig, Rule, S0};

const PATIENCE: Duration = Duration::from_secs(10);
const ECHO: Rule = Rule::masquerade("echo", "*:7", "195.228.245.1:7");

/// A terminal with a shell in it, by tmux with a server of its own.
struct Terminal {
    directory: tempfile::TempDir,
}

impl Terminal {
    fn open() -> Result<Self> {
        let terminal = Self {
            directory: tempfile::tempdir()?,
        };
        terminal.tmux(&["new-session", "-d", "-x", "130", "-y", "30", "sh"])?;
        Ok(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command
            .arg("-S")
            .arg(self.directory.path().join("tmux"))
            .args(args);
        command
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        output(&mut command, PATIENCE)
    }

    fn type_line(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.tmux(&["send-keys", "Enter"]).map(drop)
    }

    fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen has a text on it.
    fn wait(&self, text: &str) -> Result<String> {
        wait_for(&format!("{text:?} on the screen"), PATIENCE, || {
            self.screen().ok().filter(|screen| screen.contains(text))
        })
        .with_context(|| self.screen().unwrap_or_default())
    }

    /// The terminal's settings, by way of a file.
    fn settings(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        self.type_line(&format!(
            "stty -g > {0}.new; mv {0}.new {0}",
            path.display()
        ))?;
        wait_for("the settings", PATIENCE, || {
            std::fs::read_to_string(&path).ok()
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn is_alternate(&self) -> Result<bool> {
        Ok(self
            .tmux(&["display-message", "-p", "#{alternate_on}"])?
            .trim()
            == "1")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There may be no server any more.
        let _ = self.tmux(&["kill-server"]);
    }
}

fn command(forwarder: &Forwarder, rest: &str) -> String {
    let (binary, socket) = (forwarder.binary().display(), forwarder.socket());
    format!(
        "{binary} top --interval 200ms --socket {} {rest}",
        socket.display()
    )
}

#[rstest]
#[case::a_key(None)]
#[case::terminated(Some("TERM"))]
#[case::hung_up(Some("HUP"))]
fn the_terminal_is_left_as_it_was(#[case] signal: Option<&str>) -> Result<()> {
    let mut rig = Rig::s0(TC, &[ECHO])?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let terminal = Terminal::open()?;
    let before = terminal.settings("before")?;
    let pid = terminal.file("pid");
    // `exec` so that the file names the process that gets the signal.
    let run = format!(
        "sh -c 'echo $$ > {}; exec {}'; echo \"it ended, $?\"",
        pid.display(),
        command(forwarder, "")
    );
    terminal.type_line(&run)?;
    terminal.wait(" 1 rules by packets ")?;
    assert!(terminal.is_alternate()?);
    let status = match signal {
        None => {
            terminal.press("q")?;
            0
        }
        Some(signal) => {
            let pid = std::fs::read_to_string(&pid)?;
            output(
                Command::new("kill").args([&format!("-{signal}"), pid.trim()]),
                PATIENCE,
            )?;
            128 + match signal {
                "HUP" => 1,
                _ => 15,
            }
        }
    };
    terminal.wait(&format!("it ended, {status}"))?;
    assert!(!terminal.is_alternate()?);
    assert_eq!(terminal.settings("after")?, before);
    Ok(())
}

/// A window that is closed, or a connection that breaks.
#[test]
fn it_ends_with_its_terminal() -> Result<()> {
    let mut rig = Rig::s0(TC, &[ECHO])?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let terminal = Terminal::open()?;
    let pid = terminal.file("pid");
    let run = format!(
        "sh -c 'echo $$ > {}; exec {}'",
        pid.display(),
        command(forwarder, "")
    );
    terminal.type_line(&run)?;
    terminal.wait(" 1 rules by packets ")?;
    let process = PathBuf::from("/proc").join(std::fs::read_to_string(&pid)?.trim());
    assert!(process.exists());
    terminal.tmux(&["kill-server"])?;
    wait_until("the end of top", PATIENCE, || !process.exists())
}

#[test]
fn it_shows_what_happens_and_fits_the_terminal() -> Result<()> {
    let mut rig = Rig::s0(TC, &[ECHO])?;
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let mut stream = connect(&rig.hosts.client, S0::at_gateway(7))?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let terminal = Terminal::open()?;
    terminal.type_line(&command(forwarder, ""))?;
    terminal.wait(" 1 flows by bits ")?;
    let rates = |screen: &str| {
        let line = screen.lines().find(|line| line.starts_with("echo "))?;
        line.split_whitespace().nth(3).map(str::to_owned)
    };
    // Traffic until a look falls between two exchanges.
    wait_until("a rate", PATIENCE, || {
        let talked = tcp_exchange(&mut stream, b"hello");
        let rate = terminal.screen().ok().and_then(|screen| rates(&screen));
        talked.is_ok() && rate.is_some_and(|rate| rate != "0/s")
    })?;
    let screen = terminal.wait("ESTABLISHED")?;
    assert!(screen.contains(" 195.228.245.1:7 "), "{screen}");

    // What is too small for all three shows one.
    terminal.tmux(&["resize-window", "-x", "60", "-y", "12"])?;
    wait_until("one table", PATIENCE, || {
        let screen = terminal.screen().unwrap_or_default();
        screen.contains(" 1 rules by ") && !screen.contains(" flows by ")
    })?;
    terminal.press("Tab")?;
    terminal.wait(" 1 flows by ")?;
    terminal.press("?")?;
    terminal.wait("any key closes this")?;
    terminal.press("x")?;
    terminal.tmux(&["resize-window", "-x", "130", "-y", "30"])?;
    terminal.wait(" 1 rules by ")?;
    terminal.press("/")?;
    terminal.tmux(&["send-keys", "-l", "nobody"])?;
    terminal.press("Enter")?;
    terminal.wait(" 0 flows by ")?;
    terminal.press("p")?;
    terminal.wait("paused")?;
    Ok(())
}

#[test]
fn a_daemon_that_stops_is_waited_for() -> Result<()> {
    let mut rig = Rig::s0(TC, &[ECHO])?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let terminal = Terminal::open()?;
    terminal.type_line(&command(forwarder, ""))?;
    terminal.wait(" 1 rules by ")?;
    forwarder.kill()?;
    terminal.wait("no forwarder is running on ")?;
    forwarder.restart()?;
    terminal.wait("? help")?;
    Ok(())
}

#[test]
fn without_a_terminal_it_is_a_sentence_or_a_listing() -> Result<()> {
    let mut rig = Rig::s0(TC, &[ECHO])?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let refused = forwarder.listing("top").expect_err("no terminal");
    let sentence = "error: `top` needs a terminal: take `forwarder top --once` or `--json` where there is none";
    assert!(format!("{refused:#}").contains(sentence), "{refused:#}");
    let text = forwarder.listing("top --once --interval 100ms")?;
    assert!(text.starts_with("forwarder 0."), "{text}");
    assert!(
        text.contains(" 1 rules by packets ") && !text.contains("\u{1b}"),
        "{text}"
    );
    let json = forwarder.query("top --interval 100ms")?;
    assert_eq!(json["rules"][0]["name"], "echo");
    assert_eq!(json["rules"][0]["packets"], 0.0);
    Ok(())
}
