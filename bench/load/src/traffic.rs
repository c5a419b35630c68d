//! Runs against a system: which phases, with which producers and readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench_disk::Disk;
use millstream_client::Config;

use crate::args::{
    ConsumeArgs, E2eArgs, LoadArgs, MixedArgs, ProduceArgs, Rate, ReaderArgs, Spread, StepArgs,
};
use crate::checker::Verdict;
use crate::cost::{Snapshot, Watch};
use crate::inbox::Inbox;
use crate::knee::{Knee, Search, Shown, knee_of};
use crate::live::Live;
use crate::machine::{broker_version, cores_allowed};
use crate::outcomes::{Desk, Limits};
use crate::payload::Noise;
use crate::phase::{Backlog, Clients, Load, Reading, back_fill, catch_up, measure};
use crate::report::{Phase, Setup, TrafficReport};
use crate::run::BenchError;
use crate::seen::Seen;
use crate::sender::{Mix, Sender};
use crate::system::{ConsumerSpec, Driver, ProducerSpec, ReadFrom, System, SystemError, TopicSpec, connect};
use crate::view::View;

/// What every run of one call shares.
pub(crate) struct Bench<'a> {
    pub(crate) config: &'a Config,
    /// UTC.
    pub(crate) started: String,
    pub(crate) live: Live,
}

/// A reader that has had nothing for so long has lost something.
const READ_STALL: Duration = Duration::from_secs(30);
/// A topic that was there before is read until nothing comes for so long.
const IDLE: Duration = Duration::from_secs(3);
/// Producers share this many desks: few enough to look at, enough not to queue at them.
const DESKS: usize = 8;
const NO_READERS: ReaderArgs = ReaderArgs { consumers: 0, groups: 0 };

/// One topic and its clients.
struct Run<'a> {
    bench: &'a Bench<'a>,
    load: &'a LoadArgs,
    readers: &'a ReaderArgs,
    /// Whether they read from the start of the run on.
    tails: bool,
    system: Box<dyn System>,
    topic: TopicSpec,
    made: bool,
    epoch: Instant,
    /// Told from other runs' records by it.
    run: u32,
    clients: Clients,
    watch: Watch,
}

pub(crate) async fn produce(args: &ProduceArgs, bench: &Bench<'_>) -> Result<TrafficReport, BenchError> {
    stepped("produce", &args.load, &args.steps, &NO_READERS, bench).await
}

pub(crate) async fn e2e(args: &E2eArgs, bench: &Bench<'_>) -> Result<TrafficReport, BenchError> {
    stepped("e2e", &args.load, &args.steps, &args.readers, bench).await
}

async fn stepped(
    kind: &str,
    load: &LoadArgs,
    steps: &StepArgs,
    readers: &ReaderArgs,
    bench: &Bench<'_>,
) -> Result<TrafficReport, BenchError> {
    let Some(sweep) = &steps.sweep else {
        let run = Run::start(load, readers, bench).await?;
        return run.report(kind, async |run: &mut Run<'_>| run.steps(steps).await).await;
    };
    let mut whole: Option<TrafficReport> = None;
    for (name, load) in sweep.loads(load) {
        let run = Run::start(&load, readers, bench).await?;
        let part = run.report(kind, async |run: &mut Run<'_>| run.one(&name).await).await?;
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => {
                whole.phases.extend(part.phases);
                if let (Some(all), Some(one)) = (&mut whole.verdict, &part.verdict) {
                    all.add(one);
                }
            }
        }
    }
    Ok(whole.expect("a sweep has values"))
}

pub(crate) async fn consume(args: &ConsumeArgs, bench: &Bench<'_>) -> Result<TrafficReport, BenchError> {
    if args.tail {
        let steps = StepArgs { ramp: false, steps: Vec::new(), sweep: None, p999_max_ms: 0 };
        return stepped("consume", &args.load, &steps, &args.readers, bench).await;
    }
    let run = Run { tails: false, ..Run::start(&args.load, &args.readers, bench).await? };
    run.report("consume", async |run: &mut Run<'_>| run.consume(args).await).await
}

pub(crate) async fn mixed(args: &MixedArgs, bench: &Bench<'_>) -> Result<TrafficReport, BenchError> {
    let run = Run::start(&args.load, &args.readers, bench).await?;
    run.report("mixed", async |run: &mut Run<'_>| run.mixed(args).await).await
}

/// What a run's phases found.
type Found = (Vec<Phase>, Option<Knee>);

impl<'a> Run<'a> {
    async fn start(
        load: &'a LoadArgs,
        readers: &'a ReaderArgs,
        bench: &'a Bench<'a>,
    ) -> Result<Run<'a>, BenchError> {
        let system = connect(load.driver, bench.config).await?;
        let epoch = Instant::now();
        // Unlike any run's before on this machine, and unlike one on another: both the process and the time tell.
        let nanoseconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let run = std::process::id() ^ nanoseconds.map_or(0, |since| since.subsec_nanos()).rotate_left(8);
        let made = load.topic.is_none();
        let topic = TopicSpec {
            name: load.topic.clone().unwrap_or_else(|| format!("bench-{run:08x}")),
            partitions: load.partitions,
            replicas: load.replicas,
            durability: load.durability,
            configs: load.configs.clone(),
        };
        if made {
            system.create_topic(&topic).await?;
        }
        let watch = Watch::of(&load.broker_pid);
        let clients = Clients::default();
        let tails = true;
        Ok(Run { bench, load, readers, tails, system, topic, made, epoch, run, clients, watch })
    }

    /// Connects, lets `work` measure, checks, describes, and tidies up whether it went well or not.
    async fn report(
        mut self,
        kind: &str,
        work: impl AsyncFnOnce(&mut Run<'a>) -> Result<Found, BenchError>,
    ) -> Result<TrafficReport, BenchError> {
        let found = self.work(work).await;
        self.bench.live.clear();
        let described = self.system.describe(&self.topic).await;
        let clients = std::mem::take(&mut self.clients);
        clients.close().await;
        let deleted = if self.made && !self.load.keep {
            self.system.delete_topic(&self.topic.name).await
        } else {
            Ok(())
        };
        // The first thing that went wrong is the one to tell.
        let ((phases, knee), verdict) = found?;
        let mut system = described?;
        if self.load.driver == Driver::Kafka {
            // Its protocol does not tell.
            let versions = self.load.broker_pid.iter().filter_map(|pid| broker_version(*pid));
            system.notes.extend(versions.map(|version| format!("the broker's process is {version}")));
        }
        deleted?;
        Ok(TrafficReport { kind: kind.to_owned(), setup: self.setup(), system, phases, knee, verdict })
    }

    async fn work(
        &mut self,
        work: impl AsyncFnOnce(&mut Run<'a>) -> Result<Found, BenchError>,
    ) -> Result<(Found, Option<Verdict>), BenchError> {
        self.connect().await?;
        let found = work(self).await?;
        let verdict = if self.load.verify { Some(self.verdict().await?) } else { None };
        Ok((found, verdict))
    }

    async fn connect(&mut self) -> Result<(), BenchError> {
        if self.tails {
            let mut views = self.views(self.readers, ReadFrom::Tail).await?;
            views.iter_mut().for_each(View::start);
            self.clients.views = views;
        }
        let desks: Vec<Arc<Desk>> = (0..DESKS.min(usize::from(self.load.producers)))
            .map(|_| Desk::new(self.epoch, self.load.verify))
            .collect();
        let spec = self.producer_spec();
        let mix = self.mix();
        let limits = Limits { records: self.load.window, bytes: self.load.memory as u64 };
        for index in 0..self.load.producers {
            let outcomes = desks[usize::from(index) % desks.len()].outcomes(u32::from(index), limits);
            let producer = self.system.producer(&spec, outcomes.clone()).await?;
            self.clients.senders.push(Sender::new(producer, outcomes, mix.clone(), index));
        }
        self.clients.desks = desks;
        Ok(())
    }

    /// A group is a view, and so are the consumers that share the partitions by hand.
    async fn views(&self, readers: &ReaderArgs, from: ReadFrom) -> Result<Vec<View>, BenchError> {
        // A topic of our own has nothing in it that a group would have to skip, and nothing it may miss.
        let from_of_group = if self.made { ReadFrom::Start } else { from };
        let all: Vec<u32> = (0..self.topic.partitions).collect();
        let mut views = Vec::new();
        let groups = if readers.groups == 0 { u32::from(readers.consumers > 0) } else { readers.groups };
        for group in 0..groups {
            let inbox = Inbox::new(self.epoch, self.run, self.load.verify);
            let mut view = View::new(inbox);
            for index in 0..readers.consumers {
                let in_group = readers.groups > 0;
                let share = |partition: &u32| in_group || partition % readers.consumers == index;
                let spec = ConsumerSpec {
                    topic: self.topic.name.clone(),
                    partitions: all.iter().copied().filter(share).collect(),
                    from: if in_group { from_of_group } else { from },
                    group: in_group.then(|| format!("{}-{:08x}-{group}", self.topic.name, self.run)),
                };
                if in_group {
                    view.add_reading(self.system.consumer(&spec).await?);
                } else if !spec.partitions.is_empty() {
                    view.add(self.system.consumer(&spec).await?);
                }
            }
            views.push(view);
        }
        Ok(views)
    }

    async fn one(&mut self, name: &str) -> Result<Found, BenchError> {
        self.warm_up(self.load.rate.per_second()).await?;
        let phase = self.phase(name, self.load.rate.per_second(), self.drain()).await?;
        Ok((vec![phase], None))
    }

    async fn steps(&mut self, steps: &StepArgs) -> Result<Found, BenchError> {
        let p999_us_max = steps.p999_max_ms * 1000;
        if steps.ramp {
            return self.ramp(p999_us_max).await;
        }
        let Some(first) = steps.steps.first() else { return self.one("measured").await };
        self.warm_up(Some(*first)).await?;
        let (mut phases, mut shown) = (Vec::new(), Vec::new());
        for rate in &steps.steps {
            let phase = self.step(*rate, "").await?;
            shown.extend(Shown::by(&phase).map(|shown| (*rate, shown)));
            phases.push(phase);
        }
        Ok((phases, Some(knee_of(&shown, p999_us_max))))
    }

    async fn ramp(&mut self, p999_us_max: u64) -> Result<Found, BenchError> {
        let Rate::PerSecond(first) = self.load.rate else {
            return Err(BenchError::Usage("--ramp starts at --rate, which is not max then".to_owned()));
        };
        self.warm_up(Some(first)).await?;
        let mut search = Search::new(first, p999_us_max);
        let mut phases = Vec::new();
        while let Some(rate) = search.next() {
            let again = if search.is_repeating() { ", again" } else { "" };
            let phase = self.step(rate, again).await?;
            let nothing = Shown { achieved: 0.0, p999_us: u64::MAX, failed: 0 };
            search.tell(rate, Shown::by(&phase).unwrap_or(nothing));
            phases.push(phase);
        }
        Ok((phases, Some(search.knee())))
    }

    /// Far above the knee a backlog would take longer to send than to see that it is one.
    async fn step(&mut self, rate: f64, again: &str) -> Result<Phase, BenchError> {
        self.phase(&format!("{rate:.0}/s{again}"), Some(rate), Duration::from_secs(1)).await
    }

    async fn consume(&mut self, args: &ConsumeArgs) -> Result<Found, BenchError> {
        if let Some(seconds) = args.again {
            let spec = self.whole_topic();
            let partitions = u64::from(self.topic.partitions);
            let share = |partition: u32| {
                let extra = u64::from(u64::from(partition) < args.backlog % partitions);
                (partition, args.backlog / partitions + extra)
            };
            let shares = (0..self.topic.partitions).map(share).collect();
            let backlog = Backlog { system: self.system.as_ref(), spec: &spec, shares };
            let phase = back_fill(&backlog, Duration::from_secs(seconds), self.reading()).await?;
            return Ok((vec![phase], None));
        }
        let mut phases = Vec::new();
        if self.made {
            self.warm_up(None).await?;
            phases.push(self.fill(args.backlog).await?);
        }
        let mut before = self.snapshot()?;
        let views = self.views(&args.readers, ReadFrom::Start).await?;
        // A group's members read as soon as they are in it; others when all are there.
        if args.readers.groups == 0 {
            before = self.snapshot()?;
        }
        let (wanted, stall) =
            if self.made { (self.clients.acknowledged, READ_STALL) } else { (u64::MAX, IDLE) };
        let (views, phase) = catch_up(views, wanted, &before, Reading { stall, ..self.reading() }).await?;
        self.clients.views = views;
        phases.push(phase);
        Ok((phases, None))
    }

    async fn mixed(&mut self, args: &MixedArgs) -> Result<Found, BenchError> {
        let filled = self.fill(args.backlog).await?;
        self.warm_up(self.load.rate.per_second()).await?;
        let mut alone = self.load_of("tail alone", self.load.rate.per_second(), self.drain());
        alone.duration = args.alone.map_or(alone.duration, Duration::from_secs);
        let reading = self.reading();
        let alone = measure(&mut self.clients, alone, None, reading).await?;
        let spec = self.whole_topic();
        // What the tail has read so far is what there is.
        let shares = self.clients.views.first().map(|view| view.inbox().by_partition());
        let shares = shares.expect("a run with tails has a view");
        let backlog = Backlog { system: self.system.as_ref(), spec: &spec, shares };
        let load = self.load_of("tail and back-fill", self.load.rate.per_second(), self.drain());
        let reading = self.reading();
        let both = measure(&mut self.clients, load, Some(&backlog), reading).await?;
        Ok((vec![filled, alone, both], None))
    }

    fn whole_topic(&self) -> ConsumerSpec {
        ConsumerSpec {
            topic: self.topic.name.clone(),
            partitions: (0..self.topic.partitions).collect(),
            from: ReadFrom::Start,
            group: None,
        }
    }

    /// The backlog, as fast as it goes.
    async fn fill(&mut self, records: u64) -> Result<Phase, BenchError> {
        let load = Load {
            records_max: Some(records),
            duration: FILL_MAX,
            ..self.load_of("fill", None, self.drain())
        };
        let reading = self.reading();
        measure(&mut self.clients, load, None, reading).await
    }

    async fn warm_up(&mut self, rate: Option<f64>) -> Result<(), BenchError> {
        if self.load.warm_up > 0 {
            let duration = Duration::from_secs(self.load.warm_up);
            let load = Load { duration, records_max: None, ..self.load_of("warm-up", rate, self.drain()) };
            let reading = self.reading();
            measure(&mut self.clients, load, None, reading).await?;
        }
        Ok(())
    }

    async fn phase(
        &mut self,
        name: &str,
        rate: Option<f64>,
        drain_max: Duration,
    ) -> Result<Phase, BenchError> {
        let load = self.load_of(name, rate, drain_max);
        let reading = self.reading();
        measure(&mut self.clients, load, None, reading).await
    }

    /// Readers that saw everything have checked it; otherwise the topic is read back.
    async fn verdict(&mut self) -> Result<Verdict, BenchError> {
        let read_back = self.clients.views.is_empty();
        if read_back {
            let one = ReaderArgs { consumers: 1, groups: 0 };
            let views = self.views(&one, ReadFrom::Start).await?;
            let before = self.snapshot()?;
            let (views, _) = catch_up(views, self.clients.acknowledged, &before, self.reading()).await?;
            self.clients.views = views;
        }
        let mut acknowledged = BTreeMap::<u32, Seen>::new();
        self.clients.desks.iter().for_each(|desk| acknowledged.append(&mut desk.acknowledged()));
        let mut verdicts = self.clients.views.iter().filter_map(|view| view.inbox().verdict(&acknowledged));
        let mut all =
            verdicts.next().ok_or_else(|| BenchError::Usage("nothing was read to be checked".to_owned()))?;
        verdicts.for_each(|one| all.add(&one));
        Ok(all)
    }

    fn load_of(&self, name: &str, rate: Option<f64>, drain_max: Duration) -> Load {
        Load {
            name: name.to_owned(),
            rate,
            arrivals: self.load.arrivals,
            duration: Duration::from_secs(self.load.duration),
            drain_max,
            records_max: self.load.records,
            seed: self.load.seed,
        }
    }

    fn reading(&self) -> Reading<'a> {
        Reading {
            epoch: self.epoch,
            run: self.run,
            watch: self.watch.clone(),
            live: &self.bench.live,
            stall: READ_STALL,
        }
    }

    fn snapshot(&self) -> Result<Snapshot, BenchError> {
        self.watch.snapshot().map_err(BenchError::watching)
    }

    fn drain(&self) -> Duration {
        Duration::from_secs(self.load.drain)
    }

    fn producer_spec(&self) -> ProducerSpec {
        ProducerSpec {
            topic: self.topic.name.clone(),
            partitions: self.topic.partitions,
            acks: self.load.acks,
            compression: self.load.compression,
            batch_bytes: self.load.batch_bytes,
            linger_us: self.load.linger_us,
            client_configs: self.load.client_configs.clone(),
            memory_bytes: self.load.memory,
            window: self.load.window as usize,
        }
    }

    fn mix(&self) -> Mix {
        Mix {
            sizes: self.load.record_bytes.clone(),
            keys: self.load.keys.clone(),
            noise: Noise::new(self.load.seed),
            compress_ratio: self.load.compress_ratio,
            round: (self.load.spread == Spread::Round).then_some(self.topic.partitions),
            checked: self.load.verify,
            seed: self.load.seed,
            run: self.run,
            chunk_bytes: self.load.batch_bytes,
        }
    }

    fn setup(&self) -> Setup {
        let load = self.load;
        let closed = load.rate == Rate::Max;
        let disk = self.watch.device().map(|directory| Disk::at(directory));
        Setup {
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started: self.bench.started.clone(),
            driver: load.driver.to_string(),
            record_bytes: load.record_bytes.to_string(),
            record_bytes_mean: load.record_bytes.mean(),
            keys: load.keys.to_string(),
            compress_ratio: load.compress_ratio,
            partitions: load.partitions,
            producers: u32::from(load.producers),
            consumers: self.readers.consumers,
            groups: self.readers.groups,
            spread: format!("{:?}", load.spread).to_lowercase(),
            acks: load.acks.to_string(),
            durability: load.durability.to_string(),
            compression: load.compression.to_string(),
            batch_bytes: load.batch_bytes,
            linger_us: load.linger_us,
            window: load.window as usize,
            memory_bytes: load.memory,
            arrivals: if closed {
                "closed".to_owned()
            } else {
                format!("{:?}", load.arrivals).to_lowercase()
            },
            warm_up_seconds: load.warm_up as f64,
            seed: load.seed,
            broker_cores: load.broker_pid.iter().map(|pid| cores_allowed(*pid)).collect(),
            broker_disk: disk.map(|disk| disk.to_string()),
        }
    }
}

/// Bounds how long a backlog may take to be sent.
const FILL_MAX: Duration = Duration::from_secs(3600);

impl From<SystemError> for BenchError {
    fn from(error: SystemError) -> BenchError {
        BenchError::System(error)
    }
}
