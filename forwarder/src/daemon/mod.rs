//! The daemon: fills the maps, attaches the programs, and then only watches.
//!
//! Traffic does not need it: it goes on when the daemon stops or dies. What stops with it is the expiry of
//! flows and following the network's changes.

mod capture;
mod compare;
mod describe;
mod explain;
mod flows;
mod log;
mod metrics;
mod privileges;
mod published;
mod rates;
mod report;
mod running;
mod start;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{
    config::Config,
    control::server,
    datapath::Pins,
    network::{Change, Watch},
};
pub use privileges::missing_now as missing_capabilities;
use running::Running;

/// What `forwarder run` was told besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The file a reload reads; `None` if the rule came from flags, and there is nothing to reload.
    pub config_path: Option<PathBuf>,
}

/// Changes closer together than this are taken as one: a routing daemon that loads a full table must not
/// keep every flow asking for its route.
const SETTLE: Duration = Duration::from_millis(20);

/// Forwards until it is told to stop.
///
/// # Errors
/// Whatever keeps the daemon from starting.
pub fn run(config: Config, options: RunOptions) -> anyhow::Result<()> {
    log::start(&config.log);
    privileges::require()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config, options))
}

async fn serve(config: Config, options: RunOptions) -> anyhow::Result<()> {
    let _instance = start::claim()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watch = Watch::start().await?;
    let started = start::start(config, options, &watch.handle).await?;
    let running = started.running;
    // Threads that are there already would keep them.
    privileges::drop_others().context("cannot give up capabilities")?;
    running.metrics.serve(started.metrics)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(server::serve(started.control, running.clone(), async {
        let _ = stopped.await;
    }));
    let mut sweep = Instant::now();
    let mut words = running.words()?;
    let mut due: Due = None;
    let mut followed = Instant::now();
    loop {
        let wake = due.map_or_else(far_away, |(at, _)| at);
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&running),
            change = watch.next() => due = postpone(due, followed, change),
            () = sleep_until(wake), if due.is_some() => {
                let change = due.take().map_or(Change::None, |(_, change)| change);
                follow(&running, change, &watch).await;
                followed = Instant::now();
            }
            words = words.readable_mut() => {
                let mut words = words?;
                words.get_inner_mut().flush();
                words.clear_ready();
            }
            () = sleep_until(sweep) => {
                running.sweep(&watch.handle).await;
                // Asked every time: a reload may have changed the timeouts.
                sweep = Instant::now() + running.sweep_interval();
            }
        }
    }
    let _ = stop.send(());
    server.await??;
    info!("stopped; traffic goes on without the daemon, `forwarder detach` ends it");
    Ok(())
}

/// A change after a quiet time is due at once; those that come soon after it wait and are taken as one.
fn postpone(due: Due, followed: Instant, change: Change) -> Due {
    match (due, change) {
        (None, Change::None) => None,
        (None, change) => Some((followed + SETTLE, change)),
        (Some((at, before)), change) => Some((at, before.max(change))),
    }
}

/// When to follow which change.
type Due = Option<(Instant, Change)>;

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

async fn follow(running: &Arc<Running>, change: Change, watch: &Watch) {
    if let Err(error) = running.follow(change, &watch.handle).await {
        warn!("cannot follow a change of the network: {error:#}");
    }
}

fn reload(running: &Arc<Running>) {
    use crate::control::server::Source as _;
    match running.reload() {
        Ok(sentence) => info!("{sentence}"),
        Err(error) => warn!("the configuration stays as it was: {error:#}"),
    }
}

/// Removes everything that a stopped daemon leaves working; returns what was removed, in one sentence.
///
/// # Errors
/// A daemon is running, or something could not be removed.
pub fn detach() -> anyhow::Result<String> {
    privileges::require()?;
    let _instance = start::claim()?;
    let pins = Pins::here()?;
    if !pins.exist() {
        return Ok("nothing to detach: no forwarder has left anything here".to_owned());
    }
    let count = start::take_back(&pins)?;
    Ok(format!(
        "detached: {count} pins under {} removed, no packet is translated any more",
        pins.directory().display()
    ))
}
