//! A report for people at a terminal.

use std::fmt::{self, Formatter, Result};

use crate::checker::Verdict;
use crate::cost::{Busy, Cost};
use crate::knee::Knee;
use crate::quic_sink::SinkReport;
use crate::report::{Figures, Phase, Produced, Read, Report, Setup, TrafficReport};
use crate::system::Description;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match &self.result {
            Figures::Disk(report) => report.fmt(f)?,
            Figures::Quic(report) => quic(f, report)?,
            Figures::Traffic(report) => traffic(f, report)?,
        }
        writeln!(f, "load generator {}", self.version)?;
        write!(f, "machine        {}", self.machine)
    }
}

fn quic(f: &mut Formatter<'_>, report: &SinkReport) -> Result {
    writeln!(f, "bare QUIC      {} bytes one way, {:.2} GB/s", report.total_bytes, report.gb_per_second)?;
    writeln!(f, "receiver       {:.3} CPU s/GB", report.receiver_cpu_seconds_per_gb)?;
    writeln!(f, "sender         {:.3} CPU s/GB", report.sender_cpu_seconds_per_gb)?;
    writeln!(f, "windows        {:?}", report.windows)
}

fn traffic(f: &mut Formatter<'_>, report: &TrafficReport) -> Result {
    for phase in &report.phases {
        phase_lines(f, &report.kind, phase)?;
    }
    if let Some(found) = &report.knee {
        knee(f, found)?;
    }
    if let Some(found) = &report.verdict {
        verdict(f, found)?;
    }
    setup(f, &report.setup)?;
    description(f, &report.system)
}

fn phase_lines(f: &mut Formatter<'_>, kind: &str, phase: &Phase) -> Result {
    writeln!(f, "== {kind}: {}, {:.2} s", phase.name, phase.seconds)?;
    if let Some(made) = &phase.produced {
        produced(f, made)?;
    }
    phase.read.iter().try_for_each(|one| read(f, one))?;
    if let Some(paid) = &phase.cost {
        cost(f, paid)?;
    }
    busy(f, &phase.busy)
}

fn produced(f: &mut Formatter<'_>, made: &Produced) -> Result {
    let (rate, mb) = (made.records_per_second, made.mb_per_second);
    writeln!(f, "acknowledged   {} records: {rate:.0} records/s, {mb:.1} MB/s", made.acknowledged)?;
    if let (Some(asked), Some(achieved)) = (made.asked_rate, made.achieved) {
        let percent = achieved * 100.0;
        writeln!(f, "asked          {} records: {asked:.0} records/s; achieved {percent:.1} %", made.asked)?;
    }
    if made.unsent > 0 {
        writeln!(f, "UNSENT         {} records that were due: latencies below lack them", made.unsent)?;
    }
    if let Some(latency) = &made.latency {
        writeln!(f, "latency        {latency}")?;
        if made.asked_rate.is_none() {
            writeln!(f, "               (at full rate it is mostly the window's: what waits for its turn)")?;
        }
    }
    made.stages.iter().try_for_each(|(name, latency)| writeln!(f, "  {name:<12} {latency}"))?;
    let failed: u64 = made.failed.values().sum();
    if failed + made.retries > 0 {
        let lacks = if failed > 0 { ": latencies above lack them" } else { "" };
        writeln!(f, "failed         {failed}{lacks}; batches sent again {}", made.retries)?;
    }
    made.failed.iter().try_for_each(|(kind, count)| writeln!(f, "  {count:<12} {kind}"))
}

fn read(f: &mut Formatter<'_>, one: &Read) -> Result {
    let (rate, mb) = (one.records_per_second, one.mb_per_second);
    write!(f, "{:<14} {} records: {rate:.0} records/s, {mb:.1} MB/s", one.name, one.records)?;
    if let Some(rounds) = one.rounds {
        write!(f, ", the whole backlog {rounds} times")?;
    }
    writeln!(f)?;
    one.latency.as_ref().map_or(Ok(()), |latency| writeln!(f, "in hand after  {latency}"))
}

fn cost(f: &mut Formatter<'_>, paid: &Cost) -> Result {
    let used = &paid.used;
    let (user, system) = (used.user_seconds, used.system_seconds);
    writeln!(f, "broker CPU     {:.2} s ({user:.2} user, {system:.2} system)", paid.cpu_seconds)?;
    if let Some(per) = &paid.per_million {
        write!(f, "  per million  {:.3} CPU s", per.cpu_seconds)?;
        let (written, read) = (per.written_bytes, per.read_bytes);
        written.map_or(Ok(()), |bytes| write!(f, ", {:.1} MB written", bytes / 1e6))?;
        read.map_or(Ok(()), |bytes| write!(f, ", {:.1} MB read", bytes / 1e6))?;
        per.device_writes.map_or(Ok(()), |writes| write!(f, ", {writes:.0} write requests of the device"))?;
        writeln!(f)?;
    }
    if let Some(seconds) = paid.cpu_seconds_per_gb {
        write!(f, "  per GB       {seconds:.3} CPU s")?;
        paid.write_amplification
            .map_or(Ok(()), |times| write!(f, ", {times:.2} times the values written"))?;
        writeln!(f)?;
    }
    writeln!(f, "broker memory  {:.1} MiB resident", used.resident_bytes as f64 / f64::from(1 << 20))
}

fn busy(f: &mut Formatter<'_>, busy: &Busy) -> Result {
    write!(f, "cores busy     ")?;
    busy.broker_cores.map_or(Ok(()), |cores| write!(f, "broker {cores:.2}, "))?;
    write!(
        f,
        "generator {:.2}, others {:.2}, taken by the host {:.2}",
        busy.generator_cores, busy.others_cores, busy.steal_cores
    )?;
    match busy.generator_cpu_seconds_per_million {
        Some(seconds) => writeln!(f, "; the generator's own: {seconds:.3} CPU s per million"),
        None => writeln!(f),
    }
}

fn knee(f: &mut Formatter<'_>, found: &Knee) -> Result {
    let bound = found.p999_us_max / 1000;
    match (found.records_per_second, found.too_much) {
        (Some(rate), Some(above)) => {
            writeln!(
                f,
                "KNEE           {rate:.0} records/s borne, {above:.0} not (99 % achieved, nothing failed, p99.9 up to {bound} ms)"
            )
        }
        (Some(rate), None) => {
            writeln!(f, "KNEE           above {rate:.0} records/s, the highest that was tried")
        }
        (None, _) => writeln!(f, "KNEE           below every rate that was tried"),
    }
}

fn verdict(f: &mut Formatter<'_>, found: &Verdict) -> Result {
    let is = if found.is_good() { "good" } else { "NOT GOOD" };
    let Verdict { checked, lost, doubled, reordered, damaged, foreign, .. } = found;
    writeln!(
        f,
        "VERIFIED       {is}: {checked} records checked, {lost} lost, {doubled} doubled, {reordered} out of order, {damaged} damaged; {foreign} of others"
    )?;
    if !found.first_lost.is_empty() {
        writeln!(f, "  first lost   producer/sequence {}", found.first_lost.join(", "))?;
    }
    Ok(())
}

fn setup(f: &mut Formatter<'_>, setup: &Setup) -> Result {
    writeln!(f, "== {} at {}", setup.command, setup.started)?;
    writeln!(
        f,
        "records        {} B (mean {:.0}), keys {}, compress to 1/{}, arrivals {}",
        setup.record_bytes, setup.record_bytes_mean, setup.keys, setup.compress_ratio, setup.arrivals
    )?;
    writeln!(
        f,
        "clients        {} producers, {} consumers, {} groups; {} s warm-up not counted",
        setup.producers, setup.consumers, setup.groups, setup.warm_up_seconds
    )?;
    writeln!(
        f,
        "batch          {} B, linger {} us, compression {}; window {} records, {} B",
        setup.batch_bytes, setup.linger_us, setup.compression, setup.window, setup.memory_bytes
    )?;
    writeln!(f, "topic          {} partitions, spread: {}", setup.partitions, setup.spread)?;
    if !setup.broker_cores.is_empty() {
        let disk = setup.broker_disk.as_deref().unwrap_or("disk not found");
        writeln!(f, "broker here    allowed cores {}; {disk}", setup.broker_cores.join(" and "))?;
    }
    writeln!(f, "asked for      acks={}, durability={}", setup.acks, setup.durability)
}

fn description(f: &mut Formatter<'_>, system: &Description) -> Result {
    writeln!(f, "in force       {}; {}", system.durability, system.replication)?;
    writeln!(f, "system         {}", system.system)?;
    writeln!(f, "client         {}; {}", system.client, system.batching)?;
    system.notes.iter().try_for_each(|note| writeln!(f, "               {note}"))
}
