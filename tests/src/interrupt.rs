//! Taking everything down when the user presses Ctrl-C or somebody sends SIGTERM.
//!
//! A signal does not run destructors, and the main thread may be waiting for a packet that will never come. So a thread
//! of its own waits for the signal and removes everything by name, which makes whatever the main thread is doing fail.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{IntoRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::pipe,
};

use crate::{
    netns::{Prefix, remove_named},
    process::wait_until,
};

/// How long the main thread has to notice that its hosts are gone.
const NOTICE: Duration = Duration::from_secs(3);

/// The end of the pipe the handler writes to; a handler can only reach statics.
static WAKE: AtomicI32 = AtomicI32::new(-1);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

static FINISHED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP remove what bears the prefix, do what `besides` does, and end the process.
///
/// # Errors
/// If the kernel refuses a pipe or a handler.
pub fn on_signal(prefix: &Prefix, besides: impl FnOnce() + Send + 'static) -> Result<()> {
    // Not a blocked signal and sigwait(): children would inherit the mask and not hear SIGTERM.
    let (reader, writer) = pipe().context("making a pipe")?;
    WAKE.store(writer.into_raw_fd(), Ordering::Relaxed);
    let action = SigAction::new(
        SigHandler::Handler(wake),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only makes one system call that is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("handling {signal}"))?;
    }
    let prefix = prefix.clone();
    std::thread::spawn(move || remove_on_wake(reader, &prefix, besides));
    Ok(())
}

extern "C" fn wake(signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    let byte = u8::try_from(signal).unwrap_or(0);
    // SAFETY: the byte is live, and the descriptor is never closed.
    unsafe { libc::write(WAKE.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
}

fn remove_on_wake(reader: OwnedFd, prefix: &Prefix, besides: impl FnOnce()) {
    let mut signal = [0];
    if File::from(reader).read_exact(&mut signal).is_err() {
        return;
    }
    eprintln!("\ninterrupted; taking everything down");
    // Again and again, as the main thread may be making the next namespace right now.
    let _ = wait_until("the end of what was interrupted", NOTICE, || {
        remove_named(prefix);
        FINISHED.load(Ordering::Relaxed)
    });
    remove_named(prefix);
    besides();
    // As a shell reports a process that died of the signal.
    std::process::exit(128 + i32::from(signal[0]));
}

/// Tells that the main thread has nothing left standing. Does not return if a signal arrived: the process is ending.
pub fn finished() {
    FINISHED.store(true, Ordering::Relaxed);
    while INTERRUPTED.load(Ordering::Relaxed) {
        std::thread::park();
    }
}
