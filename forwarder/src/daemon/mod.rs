//! The daemon: fills the maps, attaches the programs, and then only watches.
//!
//! Traffic does not need it: it goes on when the daemon stops or dies. What stops with it is the expiry of
//! flows and following the network's changes.

mod capture;
mod changes;
mod compare;
mod describe;
mod events;
mod explain;
mod flows;
mod interfaces;
mod log;
mod manager;
mod metrics;
mod privileges;
mod prompts;
mod published;
mod rates;
mod reload;
mod report;
mod running;
mod start;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
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
use manager::Watchdog;
pub use privileges::missing_now as missing_capabilities;
use running::Running;

/// What `forwarder run` was told besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The file a reload reads; `None` if the rule came from flags, and there is nothing to reload.
    pub config_path: Option<PathBuf>,
    /// Whether XDP programs of others are taken off the devices that are to have ours.
    pub replace: bool,
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
    // Before anything is done, so that a signal during the start is kept for after it.
    let signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let mut watch = Watch::start().await?;
    let started = start::start(config, options, &watch.handle).await?;
    let running = started.running;
    // Threads that are there already would keep them.
    privileges::drop_others().context("cannot give up capabilities")?;
    let reading = running.tell()?;
    running.metrics.serve(started.metrics)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(server::serve(started.control, running.clone(), async {
        let _ = stopped.await;
    }));
    watch_over(&running, &mut watch, signals).await?;
    running.manager.stopping();
    // Whoever listens to events is told, before the control socket goes.
    drop(reading);
    let _ = stop.send(());
    server.await??;
    info!("stopped; traffic goes on without the daemon, `forwarder detach` ends it");
    Ok(())
}

/// What the daemon may be told by signals.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The daemon's loop, until it is told to stop.
async fn watch_over(
    running: &Arc<Running>,
    watch: &mut Watch,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let mut sweep = Instant::now();
    let mut words = running.words()?;
    let mut due: Due = None;
    let mut followed = Instant::now();
    let mut watchdog = Watchdog::new();
    running.manager.ready(&running.summary());
    loop {
        let wake = due.map(|(at, _)| at);
        let prompts = running.state().prompts.due();
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.hangup.recv() => reload(running),
            change = watch.next() => due = postpone(due, followed, change),
            () = at(wake) => {
                let change = due.take().map_or(Change::None, |(_, change)| change);
                follow(running, change, watch).await;
                followed = Instant::now();
            }
            () = running.ended.notified() => sweep = sweep.min(Instant::now() + SETTLE),
            () = at(prompts.map(Instant::from_std)) => running.state().send_prompts(),
            () = at(watchdog.due().map(Instant::from_std)) => {
                watchdog.ping(running.swept(), running.sweep_interval());
            }
            words = words.readable_mut() => {
                let mut words = words?;
                words.get_inner_mut().flush();
                words.clear_ready();
            }
            () = sleep_until(sweep) => {
                running.sweep(&watch.handle).await;
                running.manager.status(&running.summary());
                // Asked every time: a reload may have changed the timeouts.
                sweep = Instant::now() + running.sweep_interval();
            }
        }
    }
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

/// Waits until then; for `None` for good.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
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
    let mut there = pins.others()?;
    there.extend(pins.exist().then(|| pins.clone()));
    if there.is_empty() {
        return Ok("nothing to detach: no forwarder has left anything here".to_owned());
    }
    let mut count = 0;
    for pins in &there {
        count += start::take_back(pins)?;
    }
    Ok(format!(
        "detached: {count} pins under {} removed, no packet is translated any more",
        there
            .iter()
            .map(|pins| pins.directory().display().to_string())
            .collect::<Vec<_>>()
            .join(" and ")
    ))
}
