//! Our own SDK over QUIC: what Kafka's clients write it reads, and the other way round.

use std::time::Duration;

use millstream_client::{
    Client, Compression, Config, Offset, ProducerConfig, ReaderConfig, Record as Outgoing, Start, TimestampMs,
};
use serde_json::{Value, json};

use crate::protocol::{Blob, Failure, Record, Request};

const WAIT: Duration = Duration::from_secs(20);

pub(crate) struct Driver {
    server: String,
}

impl Driver {
    pub(crate) fn new(server: String) -> Self {
        Self { server }
    }

    pub(crate) async fn answer(&self, request: Request) -> Result<Value, Failure> {
        let client = Client::connect(Config::new([self.server.as_str()])).await?;
        let answer = match request.op.as_str() {
            "produce" => produce(&client, &request).await,
            "read" => read(&client, &request).await,
            _ => Err(Failure::Unsupported("only what is needed to read and write beside Kafka's clients")),
        };
        client.close().await;
        answer
    }
}

async fn produce(client: &Client, request: &Request) -> Result<Value, Failure> {
    let mut config = ProducerConfig::default();
    config.compression = match request.codec.as_str() {
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd { level: 3 },
        _ => Compression::None,
    };
    let producer = client.producer(config)?;
    let mut sent = Vec::new();
    for record in &request.records {
        let mut wanted = match &record.value {
            Some(value) => Outgoing::new(&request.topic, &value.0),
            None => Outgoing::tombstone(&request.topic),
        };
        if let Some(key) = &record.key {
            wanted = wanted.key(&key.0);
        }
        if let Some(partition) = request.partition {
            wanted = wanted.partition(partition.cast_unsigned());
        }
        if let Some(timestamp) = record.timestamp {
            wanted = wanted.timestamp(TimestampMs(timestamp));
        }
        for (name, value) in &record.headers {
            wanted = match value {
                Some(value) => wanted.header(name, &value.0),
                None => wanted.null_header(name),
            };
        }
        sent.push(producer.send(wanted).await?);
    }
    let count = sent.len();
    for delivery in sent {
        delivery.await?;
    }
    producer.close().await?;
    Ok(json!(count))
}

async fn read(client: &Client, request: &Request) -> Result<Value, Failure> {
    let partition = request.partition.unwrap_or(0).cast_unsigned();
    let start = match request.start.as_u64() {
        Some(offset) => Start::Offset(Offset(offset)),
        None => Start::Beginning,
    };
    let config = ReaderConfig::new(&request.topic).from(start).partitions([partition]).until_end();
    let mut reader = client.reader(config).await?;
    let mut records = Vec::new();
    while records.len() < request.count {
        let next = tokio::time::timeout(WAIT, reader.next()).await;
        let Some(batch) = next.map_err(|_| Failure::Error("no records in time".to_owned()))?? else { break };
        for record in batch.records() {
            let record = record?;
            records.push(Record {
                partition: partition.cast_signed(),
                offset: record.offset.0.cast_signed(),
                key: record.key.map(|bytes| Blob(bytes.to_vec())),
                value: record.value.map(|bytes| Blob(bytes.to_vec())),
                headers: record
                    .headers()
                    .map(|(name, value)| (name.to_owned(), value.map(|bytes| Blob(bytes.to_vec()))))
                    .collect(),
                timestamp: Some(record.timestamp.0),
            });
        }
    }
    records.truncate(request.count);
    Ok(json!(records))
}
