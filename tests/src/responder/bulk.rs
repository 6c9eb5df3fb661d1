//! Bulk transfers with a digest at both ends, so that one wrong byte in a hundred million is seen.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From client to server: the forward's original direction.
    Upload,
    /// From server to client: its reply direction.
    Download,
}

/// Serves uploads and downloads.
#[derive(Clone, Copy, Debug)]
pub struct Bulk;

impl Bulk {
    /// Serves one transfer. Pass it to [`Server::start`](super::Server::start).
    ///
    /// # Errors
    /// If the connection breaks or the request is not one.
    pub fn serve(mut stream: TcpStream) -> io::Result<()> {
        let mut request = [0; 17];
        stream.read_exact(&mut request)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&request[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        let (length, seed) = (number(1), number(9));
        let digest = match request[0] {
            b'U' => receive(&mut stream, length)?,
            _ => send(&mut stream, length, seed)?,
        };
        stream.write_all(&digest.to_be_bytes())
    }
}

/// Moves `length` pseudo-random bytes, a multiple of eight, and returns the digests of sender and receiver.
///
/// # Errors
/// If the connection breaks.
pub fn bulk_transfer(
    mut stream: TcpStream,
    direction: Direction,
    length: u64,
    seed: u64,
) -> io::Result<[u64; 2]> {
    let kind = match direction {
        Direction::Upload => b'U',
        Direction::Download => b'D',
    };
    let mut request = vec![kind];
    request.extend(length.to_be_bytes());
    request.extend(seed.to_be_bytes());
    stream.write_all(&request)?;
    let own = match direction {
        Direction::Upload => send(&mut stream, length, seed)?,
        Direction::Download => receive(&mut stream, length)?,
    };
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    let theirs = u64::from_be_bytes(answer);
    Ok(match direction {
        Direction::Upload => [own, theirs],
        Direction::Download => [theirs, own],
    })
}

fn send(stream: &mut TcpStream, length: u64, seed: u64) -> io::Result<u64> {
    let mut digest = Digest::new();
    // Zero is the one state xorshift never leaves.
    let mut state = seed | 1;
    let mut left = length;
    let mut chunk = Vec::with_capacity(CHUNK);
    while left > 0 {
        chunk.clear();
        for _ in 0..(left.min(CHUNK as u64) / 8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.extend(state.to_be_bytes());
        }
        digest.add(&chunk);
        stream.write_all(&chunk)?;
        left -= chunk.len() as u64;
    }
    Ok(digest.0)
}

fn receive(stream: &mut TcpStream, length: u64) -> io::Result<u64> {
    let mut digest = Digest::new();
    let mut left = length;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let part = &mut chunk[..usize::try_from(left.min(CHUNK as u64)).unwrap_or(CHUNK)];
        stream.read_exact(part)?;
        digest.add(part);
        left -= part.len() as u64;
    }
    Ok(digest.0)
}

/// FNV-1a over 64-bit words: order matters, every bit counts, and it keeps up without optimisation.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks_exact(8) {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.0 = (self.0 ^ u64::from_be_bytes(eight)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
