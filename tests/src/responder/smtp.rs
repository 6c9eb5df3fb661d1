//! SMTP (RFC 5321): accepts one message after the other and forgets them.

use std::io;
use std::net::TcpStream;

use super::{Talk, Transcript};

/// Serves one connection: EHLO, HELO, MAIL, RCPT, DATA, RSET, NOOP, QUIT. Pass it to
/// [`Server::start`](super::Server::start).
///
/// # Errors
/// If the connection breaks.
pub fn smtp(stream: TcpStream) -> io::Result<()> {
    let mut talk = Talk::server(stream);
    talk.say("220 mail.example.net ESMTP")?;
    loop {
        let line = talk.hear()?;
        let command = line
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        match command.as_str() {
            "EHLO" => talk.say("250-mail.example.net\n250 8BITMIME")?,
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => talk.say("250 OK")?,
            "DATA" => {
                talk.say("354 go ahead")?;
                let lines = talk.hear_to_dot()?.len() - 1;
                talk.say(&format!("250 OK, {lines} lines"))?;
            }
            "QUIT" => return talk.say("221 bye"),
            _ => talk.say("500 no such command")?,
        }
    }
}

/// Hands over one message and returns everything that was said.
///
/// # Errors
/// If the connection breaks or the server refuses something.
pub fn smtp_client(stream: TcpStream, message: &str) -> io::Result<Transcript> {
    let mut talk = Talk::client(stream);
    talk.expect("220 ")?;
    talk.say("EHLO client.example.org")?;
    talk.hear_until("250 ")?;
    talk.ask("MAIL FROM:<sender@example.org>", "250 ")?;
    talk.ask("RCPT TO:<user@example.net>", "250 ")?;
    talk.ask("DATA", "354 ")?;
    talk.say(message)?;
    talk.ask(".", "250 ")?;
    talk.ask("QUIT", "221 ")?;
    Ok(talk.finish())
}
