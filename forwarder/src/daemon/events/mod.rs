//! From what the datapath tells of flows to those who are told.

mod reader;
mod wall;

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use tracing::warn;

use super::published::Published;
use crate::{
    config::{Config, FlowLog},
    datapath::{Clock, EventSwitch, Events, Happening, View, Views, ends},
    events::{EventQuery, FlowEvent, FlowLogger, Heard, Hub, Kind, Queue},
    history::{Keeper, Kept, Record, WhoQuery, WhoReport},
};
pub(super) use reader::Reading;
use wall::{Telegraph, Wall};

/// Events that are handed on together.
const TOGETHER: usize = 1024;
/// After this a client that hears nothing gets a line, so that one that is gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long the flows that are there already may take to be written.
const ADOPTION: Duration = Duration::from_secs(60);

/// All that has to do with events.
pub(super) struct Telling {
    pub hub: Arc<Hub>,
    view: Views,
    published: Arc<Published>,
    ring: Mutex<Option<Events>>,
    flow_log: Mutex<Option<FlowLogger>>,
    keeper: Mutex<Option<Arc<Keeper>>>,
}

impl Telling {
    pub fn new(
        taken: Option<(Events, EventSwitch)>,
        view: Views,
        published: Arc<Published>,
    ) -> Self {
        let (ring, switch) = taken.unzip();
        Self {
            hub: Arc::new(Hub::new(move |kinds| want(switch.as_ref(), kinds))),
            view,
            published,
            ring: Mutex::new(ring),
            flow_log: Mutex::default(),
            keeper: Mutex::default(),
        }
    }

    /// Begins to write down what the configuration asks for, and to read what the programs tell. The threads have the
    /// capabilities of the caller.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(&self, config: &Config) -> anyhow::Result<Reading> {
        let ring = lock(&self.ring).take();
        let events = ring.context("the programs' events are read already")?;
        self.hub.ring_has_lost(self.view.now().events_lost()?);
        self.hub.begin();
        self.log_to(config.flow_log.as_ref())?;
        let mut threads = Vec::new();
        if let Some(history) = &config.history {
            let keeper = Keeper::start(&self.hub, history).context("cannot keep a history")?;
            threads.push(self.adopt(keeper.queue())?);
            *lock(&self.keeper) = Some(Arc::new(keeper));
        }
        Ok(self.read(events, threads)?)
    }

    /// Writes the flow log anew: to another place, or to the file that has the name now.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn log_to(&self, settings: Option<&FlowLog>) -> anyhow::Result<()> {
        let logger = settings.map(|settings| FlowLogger::start(&self.hub, settings));
        let logger = logger.transpose().context("cannot write a flow log")?;
        // The old one writes what it has got.
        drop(std::mem::replace(&mut *lock(&self.flow_log), logger));
        Ok(())
    }

    /// Has the flows kept that were there before the history was: the host may go down before they end.
    fn adopt(&self, queue: Arc<Queue>) -> anyhow::Result<JoinHandle<()>> {
        let (view, published) = (self.view.now(), Arc::clone(&self.published));
        let adopt = move || {
            if let Err(error) = each_as_new(&view, &published, &queue) {
                warn!("the history lacks flows that were there before: {error:#}");
            }
        };
        let thread = thread::Builder::new().name("adopt".to_owned());
        Ok(thread.spawn(adopt)?)
    }

    /// Tells of flows that are about to be removed, if anybody wants to know.
    pub fn telling_of_closed(&self, clock: &Clock) -> Option<Telegraph<'_>> {
        self.hub
            .wants(Kind::Closed)
            .then(|| Telegraph::new(&self.hub, &self.published, *clock))
    }

    /// Hands events to one client until it has enough or the daemon ends.
    ///
    /// # Errors
    /// There are too many such clients.
    pub fn hear(
        &self,
        query: &EventQuery,
        hear: &mut dyn FnMut(Heard) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        if let Some(rule) = &query.rule {
            let setup = self.published.setup()?;
            anyhow::ensure!(
                setup.names.values().any(|name| name == rule),
                "no rule is called `{rule}`: `forwarder rules` lists them"
            );
        }
        let mut listener = self.hub.listen(query.bits())?;
        while let Some(mut heard) = listener.hear(HEARTBEAT) {
            heard.events.retain(|event| query.takes(event));
            loop {
                let rest = heard.events.split_off(heard.events.len().min(TOGETHER));
                if hear(heard).is_break() {
                    return Ok(());
                }
                if rest.is_empty() {
                    break;
                }
                heard = Heard {
                    events: rest,
                    lost: 0,
                };
            }
        }
        Ok(())
    }

    /// Who was behind a translated connection.
    ///
    /// # Errors
    /// Flow table or history cannot be read.
    pub fn who(&self, query: &WhoQuery) -> anyhow::Result<WhoReport> {
        let keeper = lock(&self.keeper).clone();
        let kept = match &keeper {
            Some(keeper) => keeper.find(query)?,
            None => None,
        };
        let report = WhoReport {
            kept: match (&keeper, &kept) {
                (None, _) => Kept::Nothing,
                (Some(_), None) => Kept::Unusable,
                (Some(_), Some(_)) => Kept::History,
            },
            left_out: kept.as_ref().map_or(0, |found| found.left_out),
            flows: kept.map(|found| found.records).unwrap_or_default(),
        };
        Ok(report.with_open(self.open(query)?))
    }

    /// The flows in the table that are asked for.
    fn open(&self, query: &WhoQuery) -> anyhow::Result<Vec<Record>> {
        let setup = self.published.setup()?;
        let moment = Wall::now(self.published.figures().now());
        let mut open = Vec::new();
        self.view.now().each_flow(
            |flow| ends(&flow.reply).1 == query.translated,
            |flow| {
                let event = moment.opened(&flow, &setup.names);
                let is_meant =
                    !flow.is_shadow() && query.protocol.is_none_or(|one| one == event.protocol);
                if is_meant && query.takes(event.start, None) {
                    open.push(Record::of(&event, true));
                }
                ControlFlow::Continue(())
            },
        )?;
        Ok(open)
    }
}

fn lock<T>(place: &Mutex<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

fn want(switch: Option<&EventSwitch>, kinds: u32) {
    let bit = |kind: Kind| match kind {
        Kind::New => Happening::Opened.bit(),
        Kind::Established => Happening::Established.bit(),
        Kind::Closed => Happening::Closed.bit(),
    };
    let wanted = Kind::ALL.into_iter().filter(|kind| kinds & kind.bit() != 0);
    let bits = wanted.fold(0, |bits, kind| bits | bit(kind));
    if let Some(Err(error)) = switch.map(|switch| switch.want(bits)) {
        warn!("{error:#}");
    }
}

fn each_as_new(view: &View, published: &Published, queue: &Queue) -> anyhow::Result<()> {
    let setup = published.setup()?;
    let moment = Wall::now(published.figures().now());
    let mut batch = Vec::new();
    let hand_on = |batch: &mut Vec<FlowEvent>| {
        queue.put(&*batch);
        batch.clear();
        // So that there is room for what happens meanwhile.
        queue.settle(ADOPTION)
    };
    let mut keeps_up = true;
    view.each_flow(
        |_| true,
        |flow| {
            if flow.is_shadow() {
                return ControlFlow::Continue(());
            }
            batch.push(moment.opened(&flow, &setup.names));
            keeps_up = batch.len() < 16 * TOGETHER || hand_on(&mut batch);
            match keeps_up {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        },
    )?;
    anyhow::ensure!(keeps_up && hand_on(&mut batch), "the disk is too slow");
    Ok(())
}
