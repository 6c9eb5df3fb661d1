//! What the programs say in words, on its way to the daemon's log.

use std::os::fd::{AsRawFd, RawFd};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::Log;

use super::Datapath;

/// Messages of the loaded programs; readable when there are some.
pub struct Words(EbpfLogger<&'static dyn Log>);

impl Words {
    pub(super) fn listen(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        Ok(Self(EbpfLogger::init(ebpf)?))
    }

    /// Writes what has come to the log.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

impl AsRawFd for Words {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Datapath {
    /// Takes the programs' messages, which only one reader can have.
    pub fn take_words(&mut self) -> Option<Words> {
        self.words.take()
    }
}
