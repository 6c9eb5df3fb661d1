//! POP3 (RFC 1939): a mailbox with one message.

use std::io;
use std::net::TcpStream;

use super::{Talk, Transcript};

/// The message in the mailbox. One line begins with a dot, which has to be doubled on the wire.
pub const MESSAGE: &str = "\
From: postmaster@example.net
To: user@example.net
Subject: Through the gateway

This line came from the mail host.
.This one begins with a dot.
";

/// The user who owns the mailbox.
const USER: &str = "user";

/// That user's password.
const PASSWORD: &str = "secret";

/// Serves one connection: USER, PASS, STAT, LIST, RETR, DELE, NOOP, QUIT. Pass it to
/// [`Server::start`](super::Server::start).
///
/// # Errors
/// If the connection breaks.
pub fn pop3(stream: TcpStream) -> io::Result<()> {
    let mut talk = Talk::server(stream);
    let mut session = Session::default();
    talk.say("+OK POP3 ready")?;
    loop {
        let line = talk.hear()?;
        talk.say(&session.answer(&line))?;
        if session.done {
            return Ok(());
        }
    }
}

#[derive(Default)]
struct Session {
    user: String,
    authenticated: bool,
    deleted: bool,
    done: bool,
}

impl Session {
    fn answer(&mut self, line: &str) -> String {
        let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
        let octets = MESSAGE.len() + MESSAGE.lines().count();
        match (
            command.to_ascii_uppercase().as_str(),
            argument,
            self.deleted,
        ) {
            ("USER", user, _) => {
                user.clone_into(&mut self.user);
                "+OK".to_owned()
            }
            ("PASS", password, _) => {
                self.authenticated = self.user == USER && password == PASSWORD;
                let answer = if self.authenticated {
                    "+OK logged in"
                } else {
                    "-ERR no such user or password"
                };
                answer.to_owned()
            }
            ("QUIT", ..) => {
                self.done = true;
                "+OK bye".to_owned()
            }
            ("NOOP", ..) => "+OK".to_owned(),
            _ if !self.authenticated => "-ERR log in first".to_owned(),
            ("STAT", _, false) => format!("+OK 1 {octets}"),
            ("STAT", _, true) => "+OK 0 0".to_owned(),
            ("LIST", _, false) => format!("+OK 1 message\n1 {octets}\n."),
            ("LIST", _, true) => "+OK 0 messages\n.".to_owned(),
            ("RETR", "1", false) => format!("+OK {octets} octets\n{}.", stuffed(MESSAGE)),
            ("DELE", "1", false) => {
                self.deleted = true;
                "+OK deleted".to_owned()
            }
            _ => "-ERR no such command or message".to_owned(),
        }
    }
}

/// Doubles the dot a line begins with (RFC 1939 section 3).
fn stuffed(text: &str) -> String {
    text.lines()
        .map(|line| {
            if line.starts_with('.') {
                format!(".{line}\n")
            } else {
                format!("{line}\n")
            }
        })
        .collect()
}

/// Fetches and deletes the first message and returns everything that was said.
///
/// # Errors
/// If the connection breaks or the server refuses something.
pub fn pop3_client(stream: TcpStream) -> io::Result<Transcript> {
    let mut talk = Talk::client(stream);
    talk.expect("+OK")?;
    talk.ask(&format!("USER {USER}"), "+OK")?;
    talk.ask(&format!("PASS {PASSWORD}"), "+OK")?;
    talk.ask("STAT", "+OK 1 ")?;
    talk.ask("LIST", "+OK")?;
    talk.hear_to_dot()?;
    talk.ask("RETR 1", "+OK")?;
    talk.hear_to_dot()?;
    talk.ask("DELE 1", "+OK")?;
    talk.ask("QUIT", "+OK")?;
    Ok(talk.finish())
}
