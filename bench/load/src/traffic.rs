//! Runs against a broker: producing, reading back, and both at once.

use std::time::{Duration, Instant};

use millstream_client::{Client, Config, CreateTopic, Producer, Reader, ReaderConfig, Start};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::args::ProduceArgs;
use crate::kafka;
use crate::latency::{Latencies, LatencySummary};
use crate::load::{Load, Outcome, stamp};
use crate::run::BenchError;
use crate::usage::Usage;

#[derive(Debug, Clone, Serialize)]
pub struct TrafficReport {
    pub kind: &'static str,
    /// `quic` or `kafka`.
    pub protocol: &'static str,
    pub setup: Setup,
    pub records: u64,
    pub failed: u64,
    pub first_failure: Option<String>,
    pub seconds: f64,
    pub records_per_second: f64,
    pub mb_per_second: f64,
    /// From the intended start to the ack; to the consumer's hands in `e2e`.
    pub latency: Option<LatencySummary>,
    /// On the broker: from arrival to the write, and the write.
    pub broker_queue: Option<LatencySummary>,
    pub broker_disk: Option<LatencySummary>,
    pub producer_retries: u64,
    pub broker: Option<BrokerCost>,
}

/// Everything without which the figures mean nothing.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    pub broker_version: String,
    pub broker_cores: Vec<u8>,
    pub durability: String,
    pub replicas: u32,
    pub partitions: usize,
    pub topic_configs: Vec<String>,
    pub record_bytes: usize,
    pub rate: Option<f64>,
    pub clients: u32,
    pub acks: String,
    pub compression: String,
    pub batch_bytes: usize,
    pub linger_us: u64,
    pub warm_up_seconds: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct BrokerCost {
    pub cpu_seconds: f64,
    pub cpu_seconds_per_million_records: f64,
    pub cpu_seconds_per_gb: f64,
    /// To the block layer.
    pub written_bytes_per_million_records: Option<f64>,
    /// Bytes written for each byte of values.
    pub write_amplification: Option<f64>,
    pub resident_bytes: u64,
}

/// A reader that has had nothing for so long has lost something.
const READ_STALL: Duration = Duration::from_secs(30);
const E2E_RATE: f64 = 1000.0;

/// One run: its topic, its clients.
struct Run<'a> {
    args: &'a ProduceArgs,
    config: &'a Config,
    client: Client,
    topic: String,
    made: bool,
}

pub(crate) async fn produce(args: &ProduceArgs, config: &Config) -> Result<TrafficReport, BenchError> {
    let run = Run::start(args, config).await?;
    let measured = run.produce().await;
    run.end(measured).await
}

pub(crate) async fn consume(args: &ProduceArgs, config: &Config) -> Result<TrafficReport, BenchError> {
    let run = Run::start(args, config).await?;
    let measured = run.consume().await;
    run.end(measured).await
}

pub(crate) async fn e2e(args: &ProduceArgs, config: &Config) -> Result<TrafficReport, BenchError> {
    if args.kafka {
        return Err(BenchError::Send("e2e is measured over QUIC: leave --kafka away".to_string()));
    }
    let args = ProduceArgs { rate: Some(args.rate.unwrap_or(E2E_RATE)), ..args.clone() };
    let run = Run::start(&args, config).await?;
    let measured = run.e2e().await;
    run.end(measured).await
}

impl<'a> Run<'a> {
    async fn start(args: &'a ProduceArgs, config: &'a Config) -> Result<Run<'a>, BenchError> {
        let client = connect(config).await?;
        let made = args.topic.is_none();
        let topic = args.topic.clone().unwrap_or_else(|| format!("bench-{}", std::process::id()));
        if made {
            let create = CreateTopic {
                name: topic.clone(),
                partitions: Some(args.partitions),
                replicas: None,
                configs: args.configs.clone(),
            };
            client
                .admin()
                .create_topic(create)
                .await
                .map_err(|error| BenchError::Topic(error.to_string()))?;
        }
        Ok(Run { args, config, client, topic, made })
    }

    /// Removes the topic whether the run went well or not.
    async fn end(self, measured: Result<TrafficReport, BenchError>) -> Result<TrafficReport, BenchError> {
        if self.made && !self.args.keep {
            let deleted = self.client.admin().delete_topic(&self.topic).await;
            // The first thing that went wrong is the one to tell.
            let report = measured?;
            return deleted.map(|()| report).map_err(|error| BenchError::Topic(error.to_string()));
        }
        measured
    }

    async fn produce(&self) -> Result<TrafficReport, BenchError> {
        let producers = self.producers().await?;
        let epoch = Instant::now();
        self.warm_up(&producers, epoch).await?;
        let before = self.usage()?;
        let start = Instant::now();
        let outcome = self.send(&producers, self.load(self.args.duration), epoch).await?;
        let elapsed = start.elapsed();
        let cost = self.cost(before, outcome.acknowledged.max(outcome.sent))?;
        self.report("produce", &producers, &outcome, outcome.latencies.summary(), elapsed, cost).await
    }

    async fn e2e(&self) -> Result<TrafficReport, BenchError> {
        let producers = self.producers().await?;
        let epoch = Instant::now();
        self.warm_up(&producers, epoch).await?;
        let reader = self.reader(Start::End).await?;
        let (tell, told) = tokio::sync::oneshot::channel();
        let reading = tokio::spawn(read_stamped(reader, epoch, told));
        let before = self.usage()?;
        let start = Instant::now();
        let outcome = self.send(&producers, self.load(self.args.duration), epoch).await?;
        let elapsed = start.elapsed();
        // Fails only when the reader has ended, which the join below reports.
        let _ = tell.send(outcome.acknowledged);
        let latencies = reading.await.expect("the reader does not panic")?;
        let cost = self.cost(before, outcome.acknowledged)?;
        self.report("e2e", &producers, &outcome, latencies.summary(), elapsed, cost).await
    }

    async fn consume(&self) -> Result<TrafficReport, BenchError> {
        let producers = self.producers().await?;
        let outcome = self.send(&producers, self.load(self.args.duration), Instant::now()).await?;
        let before = self.usage()?;
        let start = Instant::now();
        let read = self.read_back(outcome.acknowledged).await?;
        let elapsed = start.elapsed();
        let cost = self.cost(before, read)?;
        // What filling the topic cost is another bench.
        let outcome = Outcome { queue: Latencies::default(), disk: Latencies::default(), ..outcome };
        self.report("consume", &producers, &outcome, None, elapsed, cost).await
    }

    async fn read_back(&self, wanted: u64) -> Result<u64, BenchError> {
        if self.args.kafka {
            let (server, topic, partitions) =
                (self.kafka_server()?, self.topic.clone(), self.args.partitions);
            let read =
                tokio::task::spawn_blocking(move || kafka::read(&server, &topic, partitions, wanted)).await;
            return read.expect("the reader does not panic");
        }
        let mut reader = self.reader(Start::Beginning).await?;
        let mut read = 0;
        while read < wanted {
            read += next_count(&mut reader).await?;
        }
        Ok(read)
    }

    fn kafka_server(&self) -> Result<String, BenchError> {
        let server = self.config.servers.first().cloned();
        server.ok_or_else(|| BenchError::Connect("no server given".to_string()))
    }

    async fn producers(&self) -> Result<Vec<(Client, Producer)>, BenchError> {
        let mut all = Vec::new();
        for _ in 0..self.args.clients {
            let client = connect(self.config).await?;
            let producer = client.producer(self.args.producer_config());
            all.push((client, producer.map_err(|error| BenchError::Send(error.to_string()))?));
        }
        Ok(all)
    }

    async fn reader(&self, start: Start) -> Result<Reader, BenchError> {
        let config = ReaderConfig::new(self.topic.clone()).from(start);
        self.client.reader(config).await.map_err(|error| BenchError::Read(error.to_string()))
    }

    fn load(&self, seconds: u64) -> Load {
        self.args.load(&self.topic, Duration::from_secs(seconds))
    }

    async fn warm_up(&self, producers: &[(Client, Producer)], epoch: Instant) -> Result<(), BenchError> {
        if self.args.warm_up > 0 {
            let load = Load { records_max: None, ..self.load(self.args.warm_up) };
            self.send(producers, load, epoch).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        producers: &[(Client, Producer)],
        load: Load,
        epoch: Instant,
    ) -> Result<Outcome, BenchError> {
        let mut tasks = JoinSet::new();
        for _ in producers.iter().filter(|_| self.args.kafka) {
            let (server, args, load) = (self.kafka_server()?, self.args.clone(), load.clone());
            tasks.spawn_blocking(move || kafka::send(&server, &args, &load, epoch));
        }
        for (_, producer) in producers.iter().filter(|_| !self.args.kafka) {
            let (load, producer) = (load.clone(), producer.clone());
            tasks.spawn(async move { load.run(&producer, epoch).await });
        }
        let mut all = Outcome::default();
        while let Some(one) = tasks.join_next().await {
            all.add(&one.expect("a sender does not panic")?);
        }
        Ok(all)
    }

    fn usage(&self) -> Result<Option<Usage>, BenchError> {
        let usage = self.args.broker_pid.map(Usage::of).transpose();
        usage.map_err(|source| BenchError::Io { what: "broker's process", source })
    }

    fn cost(&self, before: Option<Usage>, records: u64) -> Result<Option<BrokerCost>, BenchError> {
        let Some((before, after)) = before.zip(self.usage()?) else { return Ok(None) };
        let used = after.since(&before);
        let (millions, bytes) = (records as f64 / 1e6, (records * self.args.record_bytes as u64) as f64);
        let written = used.written_bytes.map(|written| written as f64);
        Ok(Some(BrokerCost {
            cpu_seconds: used.cpu_seconds,
            cpu_seconds_per_million_records: used.cpu_seconds / millions,
            cpu_seconds_per_gb: used.cpu_seconds / (bytes / 1e9),
            written_bytes_per_million_records: written.map(|written| written / millions),
            write_amplification: written.map(|written| written / bytes),
            resident_bytes: used.resident_bytes,
        }))
    }

    async fn report(
        &self,
        kind: &'static str,
        producers: &[(Client, Producer)],
        outcome: &Outcome,
        latency: Option<LatencySummary>,
        elapsed: Duration,
        broker: Option<BrokerCost>,
    ) -> Result<TrafficReport, BenchError> {
        let acked = if outcome.durability.is_some() { outcome.acknowledged } else { outcome.sent };
        let records_per_second = acked as f64 / elapsed.as_secs_f64();
        Ok(TrafficReport {
            kind,
            protocol: if self.args.kafka { "kafka" } else { "quic" },
            setup: self.setup(outcome).await?,
            records: acked,
            failed: outcome.failed,
            first_failure: outcome.first_failure.clone(),
            seconds: elapsed.as_secs_f64(),
            records_per_second,
            mb_per_second: records_per_second * self.args.record_bytes as f64 / 1e6,
            latency,
            broker_queue: outcome.queue.summary(),
            broker_disk: outcome.disk.summary(),
            producer_retries: producers.iter().map(|(_, producer)| producer.stats().retries_count).sum(),
            broker,
        })
    }

    async fn setup(&self, outcome: &Outcome) -> Result<Setup, BenchError> {
        let admin = self.client.admin();
        let topic =
            admin.describe_topic(&self.topic).await.map_err(|error| BenchError::Topic(error.to_string()))?;
        let cluster = admin.describe_cluster().await.map_err(|error| BenchError::Topic(error.to_string()))?;
        let set = topic.configs.iter().filter(|config| !config.is_default);
        Ok(Setup {
            broker_version: cluster.version,
            broker_cores: cluster.nodes.iter().map(|node| node.cores).collect(),
            durability: outcome.durability.map_or("none asked".to_string(), |level| format!("{level:?}")),
            replicas: topic.replicas,
            partitions: topic.partitions.len(),
            topic_configs: set.map(|config| format!("{}={}", config.key, config.value)).collect(),
            record_bytes: self.args.record_bytes,
            rate: self.args.rate,
            clients: self.args.clients,
            acks: format!("{:?}", self.args.acks).to_lowercase(),
            compression: format!("{:?}", self.args.compression).to_lowercase(),
            batch_bytes: self.args.batch_bytes,
            linger_us: self.args.linger_us,
            warm_up_seconds: self.args.warm_up,
        })
    }
}

async fn connect(config: &Config) -> Result<Client, BenchError> {
    Client::connect(config.clone()).await.map_err(|error| BenchError::Connect(error.to_string()))
}

/// Latencies from the stamps in the values, until as many were read as `told` says were acknowledged.
async fn read_stamped(
    mut reader: Reader,
    epoch: Instant,
    mut told: tokio::sync::oneshot::Receiver<u64>,
) -> Result<Latencies, BenchError> {
    let mut latencies = Latencies::default();
    let (mut read, mut wanted) = (0, None);
    while wanted.is_none_or(|wanted| read < wanted) {
        tokio::select! {
            biased;
            // The sender is dropped only when sending failed: there is nothing to wait for.
            count = &mut told, if wanted.is_none() => wanted = Some(count.unwrap_or(0)),
            batch = reader.next() => {
                let now = epoch.elapsed();
                let Some(batch) = batch.map_err(|error| BenchError::Read(error.to_string()))? else { break };
                for record in batch.records() {
                    let record = record.map_err(|error| BenchError::Read(error.to_string()))?;
                    let due = record.value.and_then(stamp).unwrap_or(now);
                    latencies.record(now.saturating_sub(due));
                    read += 1;
                }
            }
            () = tokio::time::sleep(READ_STALL), if wanted.is_some() => {
                return Err(BenchError::Read(format!("{read} of {wanted:?} records came, then none for {READ_STALL:?}")));
            }
        }
    }
    Ok(latencies)
}

/// Records of the next batch, every one of them looked at.
async fn next_count(reader: &mut Reader) -> Result<u64, BenchError> {
    let next = tokio::time::timeout(READ_STALL, reader.next()).await;
    let next = next.map_err(|_| BenchError::Read(format!("no batch for {READ_STALL:?}")))?;
    let batch = next.map_err(|error| BenchError::Read(error.to_string()))?;
    let batch = batch.ok_or_else(|| BenchError::Read("the topic ended".to_string()))?;
    let mut count = 0;
    for record in batch.records() {
        record.map_err(|error| BenchError::Read(error.to_string()))?;
        count += 1;
    }
    Ok(count)
}
