//! Where a group's offsets are to go: to a place, a time, by a number, or as a file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::kafka::cluster::Cluster;
use crate::kafka::fault::Fault;
use crate::kafka::groups;
use crate::kafka::offsets::{self, EARLIEST, LATEST, Place};

/// One of these.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct To {
    /// Where each log begins
    #[arg(long)]
    pub(crate) to_earliest: bool,
    /// Where each log ends
    #[arg(long)]
    pub(crate) to_latest: bool,
    /// This offset
    #[arg(long, value_name = "offset")]
    pub(crate) to_offset: Option<i64>,
    /// The first record at or after a time: 2026-03-01T12:00:00.000
    #[arg(long, value_name = "datetime", value_parser = parse_time)]
    pub(crate) to_datetime: Option<i64>,
    /// The first record since so long ago: P1DT2H3M4S
    #[arg(long, value_name = "duration", value_parser = parse_duration_ms)]
    pub(crate) by_duration: Option<i64>,
    /// So many records on, or back
    #[arg(long, value_name = "number", allow_hyphen_values = true)]
    pub(crate) shift_by: Option<i64>,
    /// Where they are now
    #[arg(long)]
    pub(crate) to_current: bool,
    /// A CSV file of topic,partition,offset
    #[arg(long, value_name = "file")]
    pub(crate) from_file: Option<PathBuf>,
}

/// The partitions meant by `topics` (`topic` or `topic:0,1`); of none: all that the group has committed for.
pub(crate) fn places(cluster: &mut Cluster, group: &str, topics: &[String]) -> Result<Vec<Place>, Fault> {
    if topics.is_empty() {
        return Ok(groups::committed(cluster, group)?.into_keys().collect());
    }
    let mut places = Vec::new();
    for topic in topics {
        // A topic's name holds no colon.
        let (name, partitions) =
            topic.split_once(':').map_or((topic.as_str(), None), |(name, rest)| (name, Some(rest)));
        if let Some(partitions) = partitions {
            let wrong = |_| Fault::Usage(format!("Invalid topic and partitions '{topic}'"));
            for partition in partitions.split(',') {
                places.push((name.to_owned(), partition.trim().parse().map_err(wrong)?));
            }
            continue;
        }
        let metadata = cluster.metadata(Some(&[name.to_owned()]))?;
        for found in metadata.topics {
            Fault::check(found.error_code, None)?;
            places.extend(
                found.partitions.iter().map(|partition| (name.to_owned(), partition.partition_index)),
            );
        }
    }
    places.sort();
    places.dedup();
    Ok(places)
}

/// The group's new offsets, each within its log.
pub(crate) fn plan(
    cluster: &mut Cluster,
    group: &str,
    topics: &[String],
    to: &To,
) -> Result<BTreeMap<Place, i64>, Fault> {
    if let Some(path) = &to.from_file {
        let wanted = read_file(path, group)?;
        return within_logs(cluster, wanted);
    }
    let places = places(cluster, group, topics)?;
    let all = |found: offsets::Found| {
        found
            .into_iter()
            .map(|(place, offset)| Ok((place, offset?)))
            .collect::<Result<BTreeMap<_, _>, Fault>>()
    };
    let since = to.by_duration.map(|ago| now_ms().saturating_sub(ago)).or(to.to_datetime);
    if to.to_earliest {
        return all(offsets::list(cluster, &places, EARLIEST)?);
    }
    if to.to_latest {
        return all(offsets::list(cluster, &places, LATEST)?);
    }
    if let Some(since) = since {
        let mut found = all(offsets::list(cluster, &places, since)?)?;
        let ends = all(offsets::list(cluster, &places, LATEST)?)?;
        // Nothing that young: the end.
        found.iter_mut().filter(|(_, offset)| **offset < 0).for_each(|(place, offset)| *offset = ends[place]);
        return Ok(found);
    }
    let wanted = if let Some(offset) = to.to_offset {
        places.into_iter().map(|place| (place, offset)).collect()
    } else {
        let current = groups::committed(cluster, group)?;
        let ends = all(offsets::list(cluster, &places, LATEST)?)?;
        let wanted = places.into_iter().filter_map(|place| match (to.shift_by, current.get(&place)) {
            (Some(by), Some(now)) => Some((place, now.saturating_add(by))),
            (None, Some(now)) => Some((place, *now)),
            (Some(_), None) => None,
            (None, None) => Some((place.clone(), ends[&place])),
        });
        match (to.shift_by, to.to_current) {
            (None, false) => {
                return Err(Fault::Usage(
                    "Option '[reset-offsets]' requires one of the following scenarios: [to-offset], [by-duration], \
                     [to-datetime], [to-earliest], [to-latest], [shift-by], [from-file], [to-current]"
                        .to_owned(),
                ));
            }
            (Some(_), _) | (None, true) => wanted.collect(),
        }
    };
    within_logs(cluster, wanted)
}

fn within_logs(cluster: &mut Cluster, wanted: BTreeMap<Place, i64>) -> Result<BTreeMap<Place, i64>, Fault> {
    let places: Vec<Place> = wanted.keys().cloned().collect();
    let starts = offsets::list(cluster, &places, EARLIEST)?;
    let ends = offsets::list(cluster, &places, LATEST)?;
    let within = |(place, offset): (Place, i64)| {
        let (start, end) = (starts[&place].clone()?, ends[&place].clone()?);
        let offset = if offset > end {
            eprintln!(
                "WARN: New offset ({offset}) is higher than latest offset for topic partition {}-{}. Value will be set to {end}",
                place.0, place.1
            );
            end
        } else if offset < start {
            eprintln!(
                "WARN: New offset ({offset}) is lower than earliest offset for topic partition {}-{}. Value will be set to {start}",
                place.0, place.1
            );
            start
        } else {
            offset
        };
        Ok((place, offset))
    };
    wanted.into_iter().map(within).collect()
}

/// `topic,partition,offset`, or with the group before it.
fn read_file(path: &Path, group: &str) -> Result<BTreeMap<Place, i64>, Fault> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::Usage(format!("{}: {error}", path.display())))?;
    parse_csv(&text, group)
}

fn parse_csv(text: &str, group: &str) -> Result<BTreeMap<Place, i64>, Fault> {
    let mut wanted = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let wrong = || Fault::Usage(format!("Invalid line '{line}': write it as topic,partition,offset"));
        let cells: Vec<&str> = line.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
        let (of, topic, partition, offset) = match cells[..] {
            [topic, partition, offset] => (group, topic, partition, offset),
            [of, topic, partition, offset] => (of, topic, partition, offset),
            _ => return Err(wrong()),
        };
        let partition = partition.parse().map_err(|_| wrong())?;
        let offset = offset.parse().map_err(|_| wrong())?;
        if of == group {
            wanted.insert((topic.to_owned(), partition), offset);
        }
    }
    Ok(wanted)
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as i64)
}

/// As Kafka takes it: without an offset it is UTC.
fn parse_time(text: &str) -> Result<i64, String> {
    let has_zone = text.ends_with('Z') || text.rfind(['+', '-']).is_some_and(|at| at > 10);
    let zoned = if has_zone || !text.contains('T') { text.to_owned() } else { format!("{text}Z") };
    engine_broker::utc::parse(&zoned).ok_or_else(|| "write it as 2026-03-01T12:00:00.000Z".to_owned())
}

/// ISO 8601 of days and below: `P2DT3H4M5.5S`.
fn parse_duration_ms(text: &str) -> Result<i64, String> {
    let wrong = || "write it as P1DT2H3M4S".to_owned();
    let rest = text.strip_prefix('P').ok_or_else(wrong)?;
    let (days, times) = rest.split_once('T').unwrap_or((rest, ""));
    let mut ms = 0f64;
    let mut number = String::new();
    let units = [('D', 86_400e3), ('H', 3_600e3), ('M', 60e3), ('S', 1e3)];
    for (part, allowed) in [(days, &units[..1]), (times, &units[1..])] {
        for c in part.chars() {
            if c.is_ascii_digit() || c == '.' {
                number.push(c);
                continue;
            }
            let (_, unit) = allowed.iter().find(|(name, _)| *name == c).ok_or_else(wrong)?;
            ms += number.parse::<f64>().map_err(|_| wrong())? * unit;
            number.clear();
        }
    }
    if !number.is_empty() || text.len() < 3 { Err(wrong()) } else { Ok(ms as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations_are_kafkas() {
        assert_eq!(parse_time("1970-01-01T00:00:01.000"), Ok(1_000));
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(parse_duration_ms("P1DT1H1M1S"), Ok(90_061_000));
        assert_eq!(parse_duration_ms("PT0.5S"), Ok(500));
        assert!(parse_duration_ms("1d").is_err() && parse_duration_ms("P").is_err());
    }

    #[test]
    fn exported_offsets_are_read_again() {
        let offsets =
            parse_csv("\"chat\",0,5\n\"readers\",\"chat\",1,6\n\"others\",\"chat\",1,9\n", "readers");
        let place = |partition| ("chat".to_owned(), partition);
        assert_eq!(offsets.unwrap(), BTreeMap::from([(place(0), 5), (place(1), 6)]));
        assert!(parse_csv("chat,zero,5", "readers").is_err());
    }
}
