//! One run of the bench: what was asked for, and who takes part.

use std::time::Duration;

use anyhow::Result;
use tests::netns::Prefix;

use crate::gateway::{Candidate, Gateway, NotHere, Order};
use crate::measure::Measure;
use crate::net::Pair;
use crate::passage::Passage;
use crate::plan::{Kind, Traffic};
use crate::results::Results;
use crate::rig::{Cpus, Rig, Wiring};

/// What was asked for, and what came of it.
#[derive(Debug)]
pub struct Session {
    /// What every namespace's name starts with.
    pub prefix: Prefix,
    /// Which CPU does what.
    pub cpus: Cpus,
    /// Who is wanted.
    pub candidates: Vec<Candidate>,
    /// How often everything is measured.
    pub rounds: usize,
    /// Whether it is to be over soon.
    pub quick: bool,
    /// What came of it.
    pub results: Results,
    rigs: usize,
}

impl Session {
    /// Nothing built yet.
    #[must_use]
    pub fn new(prefix: Prefix, cpus: Cpus, candidates: Vec<Candidate>, results: Results) -> Self {
        Self {
            prefix,
            cpus,
            candidates,
            rounds: results.rounds,
            quick: results.quick,
            results,
            rigs: 0,
        }
    }

    /// How long one look at traffic takes.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_millis(if self.quick { 60 } else { 200 })
    }

    /// A rig without a gateway at work.
    ///
    /// # Errors
    /// As [`Rig::build`].
    pub fn rig(&mut self, wiring: Wiring) -> Result<Rig> {
        self.rigs += 1;
        Rig::build(&self.prefix, &self.rigs.to_string(), self.cpus, wiring)
    }

    /// Builds a rig with a candidate at work, for each that is wanted and here.
    ///
    /// # Errors
    /// If one cannot be built for another reason than that its candidate is not here.
    pub fn contenders(
        &mut self,
        order: &Order,
        takes_part: impl Fn(Candidate) -> bool,
    ) -> Result<Vec<Contender>> {
        let takes_part = |it: Candidate| it != Candidate::Auto && takes_part(it);
        self.wired(order, Wiring::Datagrams, takes_part)
    }

    /// Who stands in rigs for datagrams, as far as it is here.
    #[must_use]
    pub fn entrants(&self) -> Vec<Candidate> {
        let mut entrants = self.candidates.clone();
        entrants.retain(|it| *it != Candidate::Auto && !self.is_absent(*it));
        entrants
    }

    /// As [`Session::contenders`], in rigs for something else than datagrams.
    ///
    /// # Errors
    /// As [`Session::contenders`].
    pub fn wired(
        &mut self,
        order: &Order,
        wiring: Wiring,
        takes_part: impl Fn(Candidate) -> bool,
    ) -> Result<Vec<Contender>> {
        let mut contenders = Vec::new();
        for candidate in self.candidates.clone() {
            if !takes_part(candidate) || self.is_absent(candidate) {
                continue;
            }
            let rig = self.rig(wiring)?;
            contenders.extend(self.admit(candidate, order, rig)?);
        }
        Ok(contenders)
    }

    /// Puts a candidate to work in a rig; `None` if it is not here.
    ///
    /// # Errors
    /// If it does not start.
    pub fn admit(
        &mut self,
        candidate: Candidate,
        order: &Order,
        mut rig: Rig,
    ) -> Result<Option<Contender>> {
        let gateway = Gateway::start(candidate, order, &mut rig, &self.prefix);
        let Some(gateway) = self.or_absent(candidate, gateway)? else {
            return Ok(None);
        };
        rig.settle()?;
        Ok(Some(Contender {
            candidate,
            order: *order,
            gateway,
            rig,
            opened: 0,
        }))
    }

    /// Takes it down in the results if a candidate is not here.
    ///
    /// # Errors
    /// Any other error.
    pub fn or_absent<T>(&mut self, candidate: Candidate, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(it) => Ok(Some(it)),
            Err(error) if error.is::<NotHere>() => {
                eprintln!("  {candidate}: {error}");
                let reason = error.to_string();
                self.results.record_absent(candidate, &reason);
                Ok(None)
            }
            Err(error) => Err(error.context(format!("starting {candidate}"))),
        }
    }

    /// Whether a candidate has turned out not to be here.
    #[must_use]
    pub fn is_absent(&self, candidate: Candidate) -> bool {
        let mut absent = self.results.absent.iter();
        absent.any(|it| it.candidate == candidate)
    }

    /// Takes a round's value down.
    pub fn record(
        &mut self,
        measure: Measure,
        case: &str,
        candidate: Candidate,
        outcome: Result<f64>,
    ) {
        self.record_all([measure], case, candidate, outcome.map(|it| [it]));
    }

    /// Takes down what one look at traffic tells of several measures.
    pub fn record_all<const N: usize>(
        &mut self,
        measures: [Measure; N],
        case: &str,
        candidate: Candidate,
        outcome: Result<[f64; N]>,
    ) {
        // One round that went wrong does not take the others with it.
        let values = outcome.inspect_err(|error| eprintln!("  {candidate}, {case}: {error:#}"));
        for (index, measure) in measures.into_iter().enumerate() {
            let value = values.as_ref().ok().map(|it| it[index]);
            self.results.record(measure, case, candidate, value);
        }
    }
}

/// A candidate at work in a rig of its own.
#[derive(Debug)]
pub struct Contender {
    /// Who.
    pub candidate: Candidate,
    /// What it was told.
    pub order: Order,
    /// Declared before the rig, so that it is down first.
    pub gateway: Gateway,
    /// Where.
    pub rig: Rig,
    /// Flows that are open, from number 0 on.
    pub opened: u32,
}

impl Contender {
    /// Traffic of its first `flows` flows that suits its rules.
    #[must_use]
    pub fn traffic(&self, flows: u32) -> Traffic {
        Traffic {
            v6: self.order.v6,
            foreign: !self.candidate.translates(),
            ..Traffic::flood(flows, self.order.all_ports())
        }
    }

    /// Looks at traffic for a while.
    ///
    /// # Errors
    /// As [`Rig::measure`].
    pub fn measure(&mut self, traffic: &Traffic, time: Duration) -> Result<Passage> {
        let destination = self.destination(traffic);
        self.rig.measure(traffic, destination, time)
    }

    /// Opens so many more flows.
    ///
    /// # Errors
    /// As [`Rig::complete`], or if too few packets arrive.
    pub fn open(&mut self, flows: u32, kind: Kind) -> Result<Passage> {
        self.begin(Traffic {
            kind,
            ..self.traffic(flows)
        })
    }

    /// The same of connections that are played to their end.
    ///
    /// # Errors
    /// As [`Contender::open`].
    pub fn play(&mut self, connections: u32) -> Result<Passage> {
        self.begin(Traffic {
            kind: Kind::Syn,
            whole: true,
            ..self.traffic(connections)
        })
    }

    fn begin(&mut self, traffic: Traffic) -> Result<Passage> {
        let destination = self.destination(&traffic);
        let flows = traffic.flows;
        let once = Traffic {
            first: self.opened,
            ..traffic.once()
        };
        let passage = self.rig.complete(&once, destination, PATIENCE)?;
        self.opened += flows;
        let arrived = passage.packets;
        anyhow::ensure!(
            arrived * 100 > u64::from(flows) * 95,
            "of {flows} flows {arrived} have opened"
        );
        Ok(passage)
    }

    /// Where traffic is to arrive.
    #[must_use]
    pub fn destination(&self, traffic: &Traffic) -> Pair {
        if traffic.foreign {
            crate::net::Net::FOREIGN
        } else {
            self.candidate.destination()
        }
    }
}

/// A million flows of the slowest candidate.
const PATIENCE: Duration = Duration::from_secs(180);
