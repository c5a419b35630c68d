//! A result to try things on, every figure of it `times` as large.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cost::{Busy, Cost, PerMillion};
use crate::knee::Knee;
use crate::latency::Latencies;
use crate::machine::Machine;
use crate::report::{Phase, Produced, Read, Second, SecondLatency, Setup, TrafficReport, curve};
use crate::saved::{Saved, SavedFigures};
use crate::system::Description;
use crate::usage::Usage;

pub(crate) fn saved(times: f64) -> Saved {
    Saved {
        version: "0.0.0".to_owned(),
        machine: Machine::here(),
        result: SavedFigures::Traffic(Box::new(traffic(times))),
    }
}

pub(crate) fn traffic(times: f64) -> TrafficReport {
    TrafficReport {
        kind: "e2e".to_owned(),
        setup: setup(),
        system: Description {
            system: "a broker <1>".to_owned(),
            client: "a client".to_owned(),
            durability: "on disk".to_owned(),
            replication: "1 replica".to_owned(),
            batching: "as it comes".to_owned(),
            notes: vec!["cores [1]".to_owned()],
        },
        phases: vec![phase("measured", times)],
        knee: Some(Knee {
            p999_us_max: 100_000,
            records_per_second: Some(1000.0 * times),
            too_much: Some(1050.0 * times),
        }),
        verdict: None,
    }
}

pub(crate) fn phase(name: &str, times: f64) -> Phase {
    let mut latencies = Latencies::default();
    (1..=1000)
        .for_each(|us| latencies.record(Duration::from_nanos((f64::from(us) * 1000.0 * times) as u64 + 1)));
    let second = |at: u32| Second {
        at: f64::from(at),
        seconds: 1.0,
        asked: 1000,
        sent: 1000,
        acknowledged: 1000,
        latency: Some(SecondLatency { p50_us: 500, p99_us: 990, max_us: 1000 }),
        ..Second::default()
    };
    Phase {
        name: name.to_owned(),
        seconds: 10.0,
        produced: Some(Produced {
            asked_rate: Some(1000.0),
            asked: 10_000,
            sent: 10_000,
            acknowledged: 10_000,
            unsent: 0,
            failed: BTreeMap::new(),
            retries: 0,
            records_per_second: 1000.0 * times,
            mb_per_second: 0.1 * times,
            achieved: Some(1.0),
            latency: latencies.summary(),
            curve: curve(&latencies),
            stages: BTreeMap::new(),
        }),
        read: vec![Read {
            name: "tail".to_owned(),
            records: 10_000,
            records_per_second: 1000.0 * times,
            mb_per_second: 0.1 * times,
            latency: latencies.summary(),
            curve: curve(&latencies),
            rounds: None,
        }],
        cost: Some(Cost {
            used: Usage { resident_bytes: 1 << 20, ..Usage::default() },
            cpu_seconds: times,
            per_million: Some(PerMillion {
                cpu_seconds: times,
                user_seconds: times,
                system_seconds: 0.0,
                written_bytes: Some(1e8),
                read_bytes: None,
                device_writes: None,
            }),
            cpu_seconds_per_gb: Some(times),
            write_amplification: Some(1.5),
            device_requests: None,
        }),
        busy: Busy {
            broker_cores: Some(0.5),
            generator_cores: 0.25,
            others_cores: 0.125,
            steal_cores: 0.0,
            generator_cpu_seconds: 1.0,
            generator_cpu_seconds_per_million: Some(1.0),
        },
        series: (1..=10).map(second).collect(),
    }
}

fn setup() -> Setup {
    Setup {
        command: "millstream bench e2e".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        driver: "native".to_owned(),
        record_bytes: "100".to_owned(),
        record_bytes_mean: 100.0,
        keys: "none".to_owned(),
        compress_ratio: 1.0,
        partitions: 1,
        producers: 1,
        consumers: 1,
        groups: 0,
        spread: "client".to_owned(),
        acks: "all".to_owned(),
        durability: "disk".to_owned(),
        compression: "none".to_owned(),
        batch_bytes: 128 << 10,
        linger_us: 0,
        window: 100_000,
        memory_bytes: 32 << 20,
        arrivals: "fixed".to_owned(),
        warm_up_seconds: 2.0,
        seed: 1,
        broker_cores: vec!["0-1".to_owned()],
        broker_disk: None,
    }
}
