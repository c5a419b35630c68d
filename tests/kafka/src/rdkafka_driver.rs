//! rdkafka: librdkafka from Rust.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::protocol::{Blob, Failure, Record, Request};

const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct Driver {
    server: String,
    members: BTreeMap<String, BaseConsumer>,
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(WAIT)).request_timeout(Some(WAIT))
}

fn failed(what: impl std::fmt::Debug) -> Failure {
    Failure::Error(format!("{what:?}"))
}

fn taken(message: &impl Message) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|one| (one.key.to_owned(), one.value.map(|bytes| Blob(bytes.to_vec())))).collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(|bytes| Blob(bytes.to_vec())),
        value: message.payload().map(|bytes| Blob(bytes.to_vec())),
        headers,
        timestamp: message.timestamp().to_millis(),
    }
}

/// Lost connections are told like records, and mended by the client itself.
fn arrived<M>(message: Result<M, KafkaError>) -> Result<Option<M>, Failure> {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure};
    match message {
        Ok(message) => Ok(Some(message)),
        Err(KafkaError::MessageConsumption(AllBrokersDown | BrokerTransportFailure)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn one(topic: &str, partition: i32, offset: Offset) -> Result<TopicPartitionList, Failure> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, offset)?;
    Ok(list)
}

impl Driver {
    pub(crate) fn new(server: String) -> Self {
        Self { server, members: BTreeMap::new() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.server);
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, Failure> {
        Ok(self.config().create()?)
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer, Failure> {
        Ok(self.config().set("group.id", group).set("enable.auto.commit", "false").create()?)
    }

    pub(crate) async fn answer(&mut self, request: Request) -> Result<Value, Failure> {
        match request.op.as_str() {
            "create" | "add_partitions" | "delete" | "configs" | "alter_config" | "delete_records"
            | "delete_group" => self.change(&request).await,
            "topics" | "describe" | "offset" | "groups" | "describe_group" | "committed" => {
                self.look(&request)
            }
            "produce" => self.produce(&request).await,
            "read" => self.read(&request),
            "join" => self.join(&request),
            "poll" => self.poll(&request),
            "assignment" | "commit" | "pause" | "resume" | "seek" | "leave" => self.steer(&request),
            "transaction" => {
                let producer: FutureProducer = self.config().set("transactional.id", "t").create()?;
                producer.init_transactions(Duration::from_secs(10))?;
                Ok(Value::Null)
            }
            _ => Err(Failure::Unsupported("no such operation")),
        }
    }

    async fn change(&self, request: &Request) -> Result<Value, Failure> {
        let (admin, options, topic) = (self.admin()?, admin_options(), request.topic.as_str());
        match request.op.as_str() {
            "create" => {
                let mut wanted = NewTopic::new(topic, request.partitions, TopicReplication::Fixed(1));
                for (key, value) in &request.configs {
                    wanted = wanted.set(key, value);
                }
                admin.create_topics([&wanted], &options).await?.remove(0).map_err(failed)?;
            }
            "add_partitions" => {
                let wanted = NewPartitions::new(topic, request.total);
                admin.create_partitions([&wanted], &options).await?.remove(0).map_err(failed)?;
            }
            "delete" => {
                admin.delete_topics(&[topic], &options).await?.remove(0).map_err(failed)?;
            }
            "configs" => {
                let asked = ResourceSpecifier::Topic(topic);
                let found = admin.describe_configs([&asked], &options).await?.remove(0).map_err(failed)?;
                let entries = found.entries.iter().map(|entry| (entry.name.clone(), entry.value.clone()));
                return Ok(json!(entries.collect::<BTreeMap<_, _>>()));
            }
            "alter_config" => {
                let wanted =
                    AlterConfig::new(ResourceSpecifier::Topic(topic)).set(&request.key, &request.value);
                admin.alter_configs([&wanted], &options).await?.remove(0).map_err(failed)?;
            }
            "delete_records" => {
                let list = one(topic, request.partition.unwrap_or(0), Offset::Offset(request.before))?;
                let done = admin.delete_records(&list, &options).await?;
                done.elements().iter().try_for_each(|element| element.error())?;
            }
            _ => {
                admin.delete_groups(&[&request.group], &options).await?.remove(0).map_err(failed)?;
            }
        }
        Ok(Value::Null)
    }

    fn look(&self, request: &Request) -> Result<Value, Failure> {
        let consumer = self.consumer(if request.group.is_empty() { "looks" } else { &request.group })?;
        let (topic, partition) = (request.topic.as_str(), request.partition.unwrap_or(0));
        Ok(match request.op.as_str() {
            "topics" => {
                let found = consumer.fetch_metadata(None, WAIT)?;
                let mut names: Vec<_> = found.topics().iter().map(|topic| topic.name().to_owned()).collect();
                names.sort();
                json!(names)
            }
            "describe" => {
                let found = consumer.fetch_metadata(Some(topic), WAIT)?;
                let found = &found.topics()[0];
                if let Some(error) = found.error() {
                    return Err(failed(error));
                }
                json!({ "partitions": found.partitions().len() })
            }
            "offset" => json!(self.find(&consumer, topic, partition, &request.at)?),
            "groups" => {
                let found = consumer.fetch_group_list(None, WAIT)?;
                json!(found.groups().iter().map(|group| group.name().to_owned()).collect::<Vec<_>>())
            }
            "describe_group" => {
                let found = consumer.fetch_group_list(Some(&request.group), WAIT)?;
                let found = found.groups().first().ok_or_else(|| failed("no such group"))?;
                json!({ "state": found.state().to_lowercase(), "members": found.members().len() })
            }
            _ => {
                let mut list = TopicPartitionList::new();
                for topic in consumer.fetch_metadata(None, WAIT)?.topics() {
                    list.add_partition_range(topic.name(), 0, topic.partitions().len() as i32 - 1);
                }
                let found = consumer.committed_offsets(list, WAIT)?;
                let held = found.elements().into_iter().filter_map(|one| match one.offset() {
                    Offset::Offset(offset) => Some(json!([one.topic(), one.partition(), offset])),
                    Offset::Beginning
                    | Offset::End
                    | Offset::Stored
                    | Offset::Invalid
                    | Offset::OffsetTail(_) => None,
                });
                json!(held.collect::<Vec<_>>())
            }
        })
    }

    fn find(&self, consumer: &BaseConsumer, topic: &str, partition: i32, at: &Value) -> Result<i64, Failure> {
        if let Some(time) = at.as_i64() {
            let asked = one(topic, partition, Offset::Offset(time))?;
            let found = consumer.offsets_for_times(asked, WAIT)?;
            return Ok(found.elements()[0].offset().to_raw().unwrap_or(-1));
        }
        let (low, high) = consumer.fetch_watermarks(topic, partition, WAIT)?;
        Ok(if at == "earliest" { low } else { high })
    }

    async fn produce(&self, request: &Request) -> Result<Value, Failure> {
        let acks = request.acks.as_i64().map_or("all".to_owned(), |acks| acks.to_string());
        let producer: FutureProducer = self
            .config()
            .set("compression.type", &request.codec)
            .set("acks", acks)
            .set("enable.idempotence", request.idempotent.to_string())
            .set("linger.ms", "5")
            .set("message.timeout.ms", "60000")
            .set("reconnect.backoff.max.ms", "200")
            .create()?;
        let mut sent = Vec::new();
        for record in &request.records {
            let mut headers = OwnedHeaders::new();
            for (name, value) in &record.headers {
                headers = headers.insert(Header { key: name, value: value.as_ref().map(|blob| &blob.0) });
            }
            let mut wanted = FutureRecord::<[u8], [u8]>::to(&request.topic).headers(headers);
            wanted.partition = request.partition;
            wanted.timestamp = record.timestamp;
            wanted.key = record.key.as_ref().map(|blob| blob.0.as_slice());
            wanted.payload = record.value.as_ref().map(|blob| blob.0.as_slice());
            sent.push(producer.send_result(wanted).map_err(|(error, _)| error)?);
        }
        let count = sent.len();
        for delivery in sent {
            delivery.await?.map_err(|(error, _)| error)?;
        }
        Ok(json!(count))
    }

    fn read(&self, request: &Request) -> Result<Value, Failure> {
        let consumer = self.consumer(&format!("reads-{}", request.topic))?;
        let (topic, partition) = (request.topic.as_str(), request.partition.unwrap_or(0));
        let start = match (&request.start, request.start.get("time")) {
            (_, Some(time)) => Offset::Offset(self.find(&consumer, topic, partition, time)?),
            (Value::Number(offset), None) => Offset::Offset(offset.as_i64().unwrap_or(0)),
            (start, None) if start == "latest" => Offset::End,
            _ => Offset::Beginning,
        };
        consumer.assign(&one(topic, partition, start)?)?;
        let (mut records, end) = (Vec::new(), Instant::now() + WAIT);
        while records.len() < request.count && Instant::now() < end {
            if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                records.extend(arrived(message)?.map(|message| taken(&message)));
            }
        }
        Ok(json!(records))
    }

    fn join(&mut self, request: &Request) -> Result<Value, Failure> {
        let mut config = self.config();
        config
            .set("group.id", &request.group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", request.auto.to_string())
            .set("auto.commit.interval.ms", "200")
            .set("session.timeout.ms", request.session_ms.unwrap_or(6000).to_string())
            .set("heartbeat.interval.ms", "500")
            .set("topic.metadata.refresh.interval.ms", "1000")
            .set("partition.assignment.strategy", request.strategy.as_deref().unwrap_or("range"));
        if let Some(instance) = &request.instance {
            config.set("group.instance.id", instance);
        }
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&request.topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.members.insert(request.member.clone(), consumer);
        Ok(Value::Null)
    }

    fn member(&self, request: &Request) -> Result<&BaseConsumer, Failure> {
        self.members.get(&request.member).ok_or_else(|| failed("no such member"))
    }

    fn poll(&self, request: &Request) -> Result<Value, Failure> {
        let consumer = self.member(request)?;
        let (mut records, end) = (Vec::new(), Instant::now() + Duration::from_millis(request.ms));
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match consumer.poll(left.min(Duration::from_millis(100))) {
                Some(message) => records.extend(arrived(message)?.map(|message| taken(&message))),
                None if left.is_zero() => return Ok(json!(records)),
                None => {}
            }
        }
    }

    fn steer(&mut self, request: &Request) -> Result<Value, Failure> {
        let partition = request.partition.unwrap_or(0);
        let consumer = self.member(request)?;
        match request.op.as_str() {
            "assignment" => {
                let held = consumer.assignment()?;
                let mut held: Vec<_> =
                    held.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
                held.sort();
                return Ok(json!(held));
            }
            "commit" => match consumer.commit_consumer_state(CommitMode::Sync) {
                Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            },
            "pause" => consumer.pause(&one(&request.topic, partition, Offset::Invalid)?)?,
            "resume" => consumer.resume(&one(&request.topic, partition, Offset::Invalid)?)?,
            "seek" => consumer.seek(&request.topic, partition, Offset::Offset(request.offset), WAIT)?,
            _ => {
                // Dropping it leaves the group.
                self.members.remove(&request.member);
            }
        }
        Ok(Value::Null)
    }
}
