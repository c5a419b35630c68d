//! One measured stretch: everybody starts, a line is drawn every second, and it ends when every record sent has its
//! answer and every tail has it too.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{Interval, interval_at};

use crate::cost::{Snapshot, Watch, Work};
use crate::inbox::{Inbox, ReadTally, Shares};
use crate::latency::Latencies;
use crate::live::Live;
use crate::outcomes::{Desk, Tally};
use crate::pace::Pace;
use crate::report::{Phase, Produced, Read, Second, SecondLatency, curve};
use crate::run::BenchError;
use crate::schedule::{Arrivals, Schedule, Share};
use crate::sender::{Sender, Stretch};
use crate::system::{ConsumerSpec, System, SystemError};
use crate::view::View;

/// Everybody who takes part; they stay from phase to phase.
#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) senders: Vec<Sender>,
    pub(crate) desks: Vec<Arc<Desk>>,
    pub(crate) views: Vec<View>,
    /// Records, in all phases so far.
    pub(crate) acknowledged: u64,
}

/// What is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) name: String,
    /// Of all producers together; `None`: as the window lets them.
    pub(crate) rate: Option<f64>,
    pub(crate) arrivals: Arrivals,
    pub(crate) duration: Duration,
    pub(crate) drain_max: Duration,
    pub(crate) records_max: Option<u64>,
    pub(crate) seed: u64,
}

/// How the run is measured.
#[derive(Clone)]
pub(crate) struct Reading<'a> {
    pub(crate) epoch: Instant,
    pub(crate) run: u32,
    pub(crate) watch: Watch,
    pub(crate) live: &'a Live,
    /// A tail that has had nothing for so long has lost something.
    pub(crate) stall: Duration,
}

const LINE: Duration = Duration::from_secs(1);

impl Clients {
    pub(crate) async fn close(self) {
        for view in self.views {
            view.close().await;
        }
        // All at once: each goodbye may wait for the system's.
        let mut closing = JoinSet::new();
        self.senders.into_iter().for_each(|sender| _ = closing.spawn(sender.close()));
        while closing.join_next().await.is_some() {}
    }
}

/// What is read from its start over and over.
pub(crate) struct Backlog<'a> {
    pub(crate) system: &'a dyn System,
    pub(crate) spec: &'a ConsumerSpec,
    /// A round is over when each partition has given so many: not all of them go forward together, and records are
    /// added behind them meanwhile.
    pub(crate) shares: Shares,
}

/// Sends `load`, and reads the backlog over and over beside it where one is given.
pub(crate) async fn measure(
    clients: &mut Clients,
    load: Load,
    backlog: Option<&Backlog<'_>>,
    reading: Reading<'_>,
) -> Result<Phase, BenchError> {
    let senders = std::mem::take(&mut clients.senders);
    let retries_before: u64 = senders.iter().map(Sender::retries_count).sum();
    let before = reading.watch.snapshot().map_err(BenchError::watching)?;
    // What came after the last phase's end belongs to nobody.
    clients.desks.iter().for_each(|desk| _ = desk.take());
    clients.views.iter().for_each(|view| _ = view.inbox().take());
    let start = Instant::now();
    let mut lines =
        Lines::new(&clients.desks, &clients.views, start, &reading, Some(load.duration), &load.name);
    let pace = load.rate.map(|rate| {
        let schedules = schedules(rate, &load, senders.len() as u32);
        (schedules.clone(), Pace::start(schedules, lines.start, load.duration))
    });
    let mut sending = pin!(send(senders, &load, pace.as_ref(), reading.epoch, lines.start));
    let (rounds, back_fill) = (AtomicU64::new(0), Arc::clone(&lines.back_fill));
    let mut filling = pin!(read_again(backlog, &back_fill, &rounds));
    let mut tick = interval_at((lines.start + LINE).into(), LINE);
    let asked = || pace.as_ref().map(|(_, pace)| pace.asked().min(load.records_max.unwrap_or(u64::MAX)));
    let (senders, unsent) = loop {
        tokio::select! {
            sent = &mut sending => break sent?,
            failed = &mut filling => return Err(failed.into()),
            _ = tick.tick() => lines.draw(asked()),
        }
    };
    clients.senders = senders;
    lines.draw(asked());
    clients.acknowledged += lines.produced.acknowledged;
    for view in &mut clients.views {
        lines.until(view, clients.acknowledged, reading.stall, &mut tick).await?;
    }
    let after = reading.watch.snapshot().map_err(BenchError::watching)?;
    let retries: u64 = clients.senders.iter().map(Sender::retries_count).sum();
    let asked = lines.asked.max(lines.produced.sent + unsent);
    let counts = Counts { asked, unsent, retries: retries - retries_before };
    let seconds = lines.produce_seconds(&load, asked);
    let produced = produced(&lines.produced, &load, counts, seconds);
    let work = Work { records: lines.produced.acknowledged, bytes: lines.produced.acknowledged_bytes };
    let mut read = Vec::new();
    if !clients.views.is_empty() {
        read.push(Read {
            latency: lines.read.latencies.summary(),
            curve: curve(&lines.read.latencies),
            ..lines.rates("tail", &lines.read, seconds)
        });
    }
    if backlog.is_some() {
        read.push(Read {
            rounds: Some(rounds.load(Ordering::Relaxed)),
            ..lines.rates("back-fill", &lines.back, seconds)
        });
    }
    Ok(Phase {
        name: load.name.clone(),
        seconds,
        produced: Some(produced),
        read,
        cost: after.cost_since(&before, work),
        busy: after.busy_since(&before, work),
        series: lines.series,
    })
}

/// Reads the backlog over and over for so long, and nothing else.
pub(crate) async fn back_fill(
    backlog: &Backlog<'_>,
    duration: Duration,
    reading: Reading<'_>,
) -> Result<Phase, BenchError> {
    const NAME: &str = "back-fill";
    let before = reading.watch.snapshot().map_err(BenchError::watching)?;
    let mut lines = Lines::new(&[], &[], Instant::now(), &reading, Some(duration), NAME);
    let (rounds, inbox) = (AtomicU64::new(0), Arc::clone(&lines.back_fill));
    let mut filling = pin!(read_again(Some(backlog), &inbox, &rounds));
    let mut over = pin!(tokio::time::sleep_until((lines.start + duration).into()));
    let mut tick = interval_at((lines.start + LINE).into(), LINE);
    loop {
        tokio::select! {
            failed = &mut filling => return Err(failed.into()),
            () = &mut over => break,
            _ = tick.tick() => lines.draw(None),
        }
    }
    let after = reading.watch.snapshot().map_err(BenchError::watching)?;
    let seconds = lines.start.elapsed().as_secs_f64();
    lines.draw(None);
    let work = Work { records: lines.back.records, bytes: lines.back.bytes };
    let rounds = Some(rounds.load(Ordering::Relaxed));
    Ok(Phase {
        name: NAME.to_owned(),
        seconds,
        produced: None,
        read: vec![Read { rounds, ..lines.rates(NAME, &lines.back, seconds) }],
        cost: after.cost_since(&before, work),
        busy: after.busy_since(&before, work),
        series: lines.series,
    })
}

/// Reads until every view has `wanted` records, or nothing came for `stall` where `wanted` is not known. Counts from
/// `before`: members of groups read before all of them have joined.
pub(crate) async fn catch_up(
    mut views: Vec<View>,
    wanted: u64,
    before: &Snapshot,
    reading: Reading<'_>,
) -> Result<(Vec<View>, Phase), BenchError> {
    let mut lines = Lines::new(&[], &views, before.at(), &reading, None, "catch-up");
    views.iter_mut().for_each(View::start);
    let mut tick = interval_at((lines.start + LINE).into(), LINE);
    for view in &mut views {
        lines.until(view, wanted, reading.stall, &mut tick).await?;
    }
    let after = reading.watch.snapshot().map_err(BenchError::watching)?;
    let start = lines.start.saturating_duration_since(lines.epoch);
    let seconds = lines.read.last.saturating_sub(start).as_secs_f64();
    let work = Work { records: lines.read.records, bytes: lines.read.bytes };
    let phase = Phase {
        name: "catch-up".to_owned(),
        seconds,
        produced: None,
        read: vec![lines.rates("catch-up", &lines.read, seconds)],
        cost: after.cost_since(before, work),
        busy: after.busy_since(before, work),
        series: lines.series,
    };
    Ok((views, phase))
}

fn schedules(rate: f64, load: &Load, of: u32) -> Vec<Schedule> {
    (0..of).map(|index| Schedule::new(rate, load.arrivals, Share { index, of }, load.seed)).collect()
}

/// Every sender in a task of its own, until all have every answer. They come back in their order, with how many
/// records were never sent.
async fn send(
    senders: Vec<Sender>,
    load: &Load,
    pace: Option<&(Vec<Schedule>, Pace)>,
    epoch: Instant,
    start: Instant,
) -> Result<(Vec<Sender>, u64), SystemError> {
    let count = senders.len() as u64;
    let mut sending = JoinSet::new();
    for (index, mut sender) in senders.into_iter().enumerate() {
        let records_max = load.records_max.map_or(u64::MAX, |all| {
            let extra = u64::from((index as u64) < all % count);
            all / count + extra
        });
        let (duration, drain_max) = (load.duration, load.drain_max);
        let stretch = Stretch { epoch, start, duration, drain_max, records_max };
        let paced = pace.map(|(schedules, pace)| (schedules[index].clone(), pace.wake(index)));
        sending.spawn(async move {
            let unsent = match paced {
                Some((schedule, wake)) => sender.paced(schedule, wake, stretch).await,
                None => sender.unpaced(stretch).await.map(|()| 0),
            };
            unsent.map(|unsent| (index, sender, unsent))
        });
    }
    let (mut senders, mut all_unsent) = (BTreeMap::new(), 0);
    while let Some(sent) = sending.join_next().await {
        let (index, sender, unsent) = sent.expect("a sender does not panic")?;
        senders.insert(index, sender);
        all_unsent += unsent;
    }
    Ok((senders.into_values().collect(), all_unsent))
}

/// Ends only by an error.
async fn read_again(backlog: Option<&Backlog<'_>>, inbox: &Inbox, rounds: &AtomicU64) -> SystemError {
    let Some(Backlog { system, spec, shares }) = backlog else { return std::future::pending().await };
    loop {
        let read = async {
            let mut consumer = system.consumer(spec).await?;
            inbox.read_shares(consumer.as_mut(), shares).await?;
            consumer.close().await;
            Ok(())
        };
        if let Err(error) = read.await {
            return error;
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// The time series, drawn line by line, and its sums.
struct Lines<'a> {
    epoch: Instant,
    start: Instant,
    desks: Vec<Arc<Desk>>,
    inboxes: Vec<Arc<Inbox>>,
    back_fill: Arc<Inbox>,
    produced: Tally,
    read: ReadTally,
    back: ReadTally,
    asked: u64,
    drawn: Duration,
    series: Vec<Second>,
    live: &'a Live,
}

impl<'a> Lines<'a> {
    fn new(
        desks: &[Arc<Desk>],
        views: &[View],
        start: Instant,
        reading: &Reading<'a>,
        duration: Option<Duration>,
        name: &str,
    ) -> Lines<'a> {
        reading.live.phase(name, duration);
        Lines {
            epoch: reading.epoch,
            start,
            desks: desks.to_vec(),
            inboxes: views.iter().map(|view| Arc::clone(view.inbox())).collect(),
            back_fill: Inbox::new(reading.epoch, reading.run, false),
            produced: Tally::default(),
            read: ReadTally::default(),
            back: ReadTally::default(),
            asked: 0,
            drawn: Duration::ZERO,
            series: Vec::new(),
            live: reading.live,
        }
    }

    fn draw(&mut self, asked: Option<u64>) {
        let now = self.start.elapsed();
        let (mut produced, mut read) = (Tally::default(), ReadTally::default());
        self.desks.iter().for_each(|desk| produced.add(&desk.take()));
        self.inboxes.iter().for_each(|inbox| read.add(&inbox.take()));
        let back = self.back_fill.take();
        // A sender may see that a record is due before the pace does.
        let asked = asked.unwrap_or(0).max(self.produced.sent + produced.sent).max(self.asked);
        let line = Second {
            at: now.as_secs_f64(),
            seconds: (now - self.drawn).as_secs_f64(),
            asked: asked - self.asked,
            sent: produced.sent,
            acknowledged: produced.acknowledged,
            failed: produced.failed_count(),
            latency: SecondLatency::of(&produced.latencies),
            read: read.records,
            read_latency: SecondLatency::of(&read.latencies),
            back_filled: back.records,
        };
        (self.asked, self.drawn) = (asked, now);
        self.live.line(&line);
        self.series.push(line);
        self.produced.add(&produced);
        self.read.add(&read);
        self.back.add(&back);
    }

    /// Draws on until a view has `wanted` records. One that checks may lack some: that is its verdict to tell.
    async fn until(
        &mut self,
        view: &mut View,
        wanted: u64,
        stall: Duration,
        tick: &mut Interval,
    ) -> Result<(), BenchError> {
        let inbox = Arc::clone(view.inbox());
        let mut has = pin!(inbox.has(wanted, stall));
        let all = loop {
            tokio::select! {
                all = &mut has => break all,
                _ = tick.tick() => self.draw(Some(self.asked)),
            }
        };
        self.draw(Some(self.asked));
        if let Some(failure) = view.failure() {
            return Err(failure.into());
        }
        if all || wanted == u64::MAX || inbox.is_checking() {
            return Ok(());
        }
        let read = inbox.count();
        Err(SystemError::Read(format!("{read} of {wanted} records came, then none for {stall:?}")).into())
    }

    /// Until the last answer; a rate that was borne is not made smaller by its last record's being due before the end.
    fn produce_seconds(&self, load: &Load, asked: u64) -> f64 {
        let start = self.start.saturating_duration_since(self.epoch);
        let answered = self.produced.last_answer.saturating_sub(start).as_secs_f64();
        load.rate.map_or(answered, |rate| answered.max(asked as f64 / rate))
    }

    fn rates(&self, name: &str, read: &ReadTally, seconds: f64) -> Read {
        let per_second = |amount: u64| if seconds > 0.0 { amount as f64 / seconds } else { 0.0 };
        Read {
            name: name.to_owned(),
            records: read.records,
            records_per_second: per_second(read.records),
            mb_per_second: per_second(read.bytes) / 1e6,
            latency: None,
            curve: Vec::new(),
            rounds: None,
        }
    }
}

struct Counts {
    asked: u64,
    unsent: u64,
    retries: u64,
}

fn produced(tally: &Tally, load: &Load, counts: Counts, seconds: f64) -> Produced {
    let per_second = |amount: u64| if seconds > 0.0 { amount as f64 / seconds } else { 0.0 };
    let records_per_second = per_second(tally.acknowledged);
    let stage = |(name, latencies): (&&str, &Latencies)| Some(((*name).to_owned(), latencies.summary()?));
    Produced {
        asked_rate: load.rate,
        asked: counts.asked,
        sent: tally.sent,
        acknowledged: tally.acknowledged,
        unsent: counts.unsent,
        failed: tally.failed.clone(),
        retries: counts.retries,
        records_per_second,
        mb_per_second: per_second(tally.acknowledged_bytes) / 1e6,
        // Of what was due, and in the time in which it was: a random rate is not its mean.
        achieved: load.rate.filter(|_| counts.asked > 0).map(|rate| {
            let asked_seconds = counts.asked as f64 / rate;
            tally.acknowledged as f64 / counts.asked as f64 * (asked_seconds / seconds).min(1.0)
        }),
        latency: tally.latencies.summary(),
        curve: curve(&tally.latencies),
        stages: tally.stages.iter().filter_map(stage).collect(),
    }
}
