//! Line-based conversations, as POP3, SMTP and IMAP have them, with a transcript.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

/// Who said what: `C:` the client, `S:` the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript(Vec<String>);

impl Transcript {
    /// The lines, each with its `C: ` or `S: `.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// Whether the server said a line that contains `text`.
    #[must_use]
    pub fn server_said(&self, text: &str) -> bool {
        self.0
            .iter()
            .any(|line| line.starts_with("S: ") && line.contains(text))
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// One end of a conversation.
#[derive(Debug)]
pub struct Talk {
    reader: BufReader<TcpStream>,
    transcript: Transcript,
    /// What this end's lines are marked with, and the other end's.
    marks: [&'static str; 2],
}

impl Talk {
    /// The client's end.
    #[must_use]
    pub fn client(stream: TcpStream) -> Self {
        Self::new(stream, ["C: ", "S: "])
    }

    /// The server's end.
    #[must_use]
    pub fn server(stream: TcpStream) -> Self {
        Self::new(stream, ["S: ", "C: "])
    }

    fn new(stream: TcpStream, marks: [&'static str; 2]) -> Self {
        Self {
            reader: BufReader::new(stream),
            transcript: Transcript::default(),
            marks,
        }
    }

    /// Sends one line, or several separated by `\n`; each goes out with CRLF.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        let mut wire = String::new();
        for line in text.lines() {
            wire += line;
            wire += "\r\n";
            self.note(0, line);
        }
        self.reader.get_mut().write_all(wire.as_bytes())
    }

    /// Reads one line without its CRLF.
    ///
    /// # Errors
    /// If the connection is gone, closed, or nothing comes in time.
    pub fn hear(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other side hung up",
            ));
        }
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        self.note(1, &line);
        Ok(line)
    }

    /// Reads one line and insists on its beginning.
    ///
    /// # Errors
    /// As [`Talk::hear`], or if the line begins otherwise.
    pub fn expect(&mut self, start: &str) -> io::Result<String> {
        let line = self.hear()?;
        if line.starts_with(start) {
            Ok(line)
        } else {
            let message = format!(
                "expected {start:?}, the other side said {line:?}\n{}",
                self.transcript
            );
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }

    /// Reads lines until one begins with `start`, and returns them with it.
    ///
    /// # Errors
    /// As [`Talk::hear`].
    pub fn hear_until(&mut self, start: &str) -> io::Result<Vec<String>> {
        self.hear_while(|line| !line.starts_with(start))
    }

    /// Reads lines until there is a single dot, and returns them with it.
    ///
    /// # Errors
    /// As [`Talk::hear`].
    pub fn hear_to_dot(&mut self) -> io::Result<Vec<String>> {
        self.hear_while(|line| line != ".")
    }

    fn hear_while(&mut self, more: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.hear()?;
            let last = !more(&line);
            lines.push(line);
            if last {
                return Ok(lines);
            }
        }
    }

    /// Says a line and insists on the beginning of the answer.
    ///
    /// # Errors
    /// As [`Talk::expect`].
    pub fn ask(&mut self, command: &str, start: &str) -> io::Result<String> {
        self.say(command)?;
        self.expect(start)
    }

    /// Ends the conversation.
    #[must_use]
    pub fn finish(self) -> Transcript {
        self.transcript
    }

    fn note(&mut self, mark: usize, line: &str) {
        self.transcript
            .0
            .push(format!("{}{line}", self.marks[mark]));
    }
}
