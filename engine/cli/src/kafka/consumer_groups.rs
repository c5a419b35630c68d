//! `kafka-consumer-groups`: list, describe, reset offsets, delete.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Parser};

use super::cluster::Cluster;
use super::fault::Fault;
use super::offsets::Place;
use super::{groups, properties};

mod layout;
pub(crate) mod reset;

/// List, describe, delete groups, or reset their offsets.
#[derive(Debug, Parser)]
#[command(name = "kafka-consumer-groups", version, infer_long_args = true)]
#[command(group(
    ArgGroup::new("action").required(true).args(["list", "describe", "delete", "reset_offsets", "delete_offsets"])
))]
struct Args {
    /// The Kafka server to connect to
    #[arg(long, value_name = "server to connect to")]
    bootstrap_server: String,
    /// Property file with configs for the admin client
    #[arg(long, value_name = "command config property file")]
    command_config: Option<PathBuf>,
    /// How long some things may take
    #[arg(long = "timeout", value_name = "timeout (ms)", default_value = "30000")]
    timeout_ms: u64,
    /// List all groups
    #[arg(long)]
    list: bool,
    /// Describe groups: their offsets and lag, or --members, --state
    #[arg(long)]
    describe: bool,
    /// Delete whole groups
    #[arg(long)]
    delete: bool,
    /// Set a group's offsets anew; without --execute it is only said what would be
    #[arg(long)]
    reset_offsets: bool,
    /// Forget a group's offsets of topics
    #[arg(long)]
    delete_offsets: bool,
    /// A group; may be repeated
    #[arg(long)]
    group: Vec<String>,
    /// All groups
    #[arg(long, conflicts_with = "group")]
    all_groups: bool,
    /// A topic, or topic:0,1; may be repeated
    #[arg(long)]
    topic: Vec<String>,
    /// All topics that the group has offsets of
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    /// With --describe: the members
    #[arg(long)]
    members: bool,
    /// With --describe: offsets and lag, as without
    #[arg(long, conflicts_with = "members")]
    offsets: bool,
    /// With --describe: the state; with --list: states, or only groups in these
    #[arg(long, num_args = 0..=1, default_missing_value = "", value_name = "state", conflicts_with_all = ["members", "offsets"])]
    state: Option<String>,
    /// With --list: types, or only groups of these
    #[arg(long = "type", num_args = 0..=1, default_missing_value = "", value_name = "type")]
    group_type: Option<String>,
    /// More columns
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    to: reset::To,
    /// Say what would be done
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    execute: bool,
    /// Print as CSV
    #[arg(long)]
    export: bool,
}

pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    let args: Args = match super::parse(args) {
        Ok(args) => args,
        Err(end) => return end,
    };
    super::end(act(&args), |fault| match fault {
        Fault::Usage(why) => eprintln!("{why}"),
        Fault::Refused { .. } | Fault::Connection(_) => {
            let name = fault.exception();
            println!(
                "\nError: Executing consumer group command failed due to \
                 org.apache.kafka.common.errors.{name}: {fault}"
            );
        }
        Fault::Other(_) | Fault::ReaderLeft => {
            println!("\nError: Executing consumer group command failed due to {fault}");
        }
    })
}

fn act(args: &Args) -> Result<(), Fault> {
    properties::check(args.command_config.as_deref())?;
    let mut cluster =
        Cluster::connect(&args.bootstrap_server, Duration::from_millis(args.timeout_ms.max(1)))?;
    if args.list {
        return list(&mut cluster, args);
    }
    if args.group.is_empty() && !args.all_groups {
        return Err(Fault::Usage(
            "Option [describe], [delete], [reset-offsets] takes one of: [all-groups], [group]".to_owned(),
        ));
    }
    let mut names = if args.all_groups {
        groups::list(&mut cluster, &[])?.into_iter().map(|listed| listed.group).collect()
    } else {
        args.group.clone()
    };
    names.sort();
    names.dedup();
    if args.describe {
        describe(&mut cluster, args, &names)
    } else if args.delete {
        delete(&mut cluster, &names)
    } else if args.reset_offsets {
        reset_offsets(&mut cluster, args, &names)
    } else {
        delete_offsets(&mut cluster, args, &names)
    }
}

fn list(cluster: &mut Cluster, args: &Args) -> Result<(), Fault> {
    let states = layout::states(args.state.as_deref().unwrap_or_default())?;
    let types = layout::types(args.group_type.as_deref().unwrap_or_default())?;
    let mut listed = groups::list(cluster, &states)?;
    listed.retain(|listed| types.is_empty() || types.iter().any(|kind| kind == layout::type_name(listed)));
    let text = layout::list(&listed, args.state.is_some(), args.group_type.is_some());
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn describe(cluster: &mut Cluster, args: &Args, names: &[String]) -> Result<(), Fault> {
    for name in names {
        let described = match groups::describe(cluster, name) {
            Err(Fault::Refused { code: 69, .. }) => None,
            other => Some(other?),
        };
        let known = described.filter(|described| described.state != "Dead");
        let Some(described) = known else {
            // What Kafka says of a group that is not there, too, and how it ends.
            println!("\nError: Consumer group '{name}' does not exist.");
            continue;
        };
        let text = if args.members {
            layout::members(&described, args.verbose)
        } else if args.state.is_some() {
            layout::state(&described)
        } else {
            let rows = groups::rows(cluster, &described)?;
            layout::offsets(&described, &rows)
        };
        if let Some(warning) = layout::warning(&described) {
            eprintln!("\n{warning}");
        }
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}

fn delete(cluster: &mut Cluster, names: &[String]) -> Result<(), Fault> {
    let mut deleted = Vec::new();
    let mut failed = Vec::new();
    for name in names {
        match groups::delete(cluster, name) {
            Ok(()) => deleted.push(format!("'{name}'")),
            Err(fault) => failed.push(format!(
                "* Group '{name}' could not be deleted due to: java.util.concurrent.ExecutionException: \
                 org.apache.kafka.common.errors.{}: {fault}",
                fault.exception()
            )),
        }
    }
    if failed.is_empty() {
        println!("Deletion of requested consumer groups ({}) was successful.", deleted.join(", "));
        return Ok(());
    }
    println!("\nError: Deletion of some consumer groups failed:");
    println!("{}", failed.join("\n"));
    if !deleted.is_empty() {
        println!("\nThese consumer groups were deleted successfully: {}", deleted.join(", "));
    }
    Ok(())
}

fn reset_offsets(cluster: &mut Cluster, args: &Args, names: &[String]) -> Result<(), Fault> {
    if args.topic.is_empty() && !args.all_topics && args.to.from_file.is_none() {
        return Err(Fault::Usage(
            "One of the reset scopes should be defined: --all-topics, --topic.".to_owned(),
        ));
    }
    if !args.execute && !args.dry_run {
        // The first sentence is Kafka's, whose scripts it warns; what it announces is not planned here.
        eprintln!("WARN: No action will be performed as the --execute option is missing.");
    }
    let mut all = Vec::new();
    for name in names {
        let described = groups::describe(cluster, name)?;
        if !matches!(described.state.as_str(), "Empty" | "Dead") {
            println!(
                "\nError: Assignments can only be reset if the group '{name}' is inactive, but the current state is {}.",
                described.state
            );
            continue;
        }
        let new = reset::plan(cluster, name, &args.topic, &args.to)?;
        if args.execute {
            groups::commit(cluster, name, &new)?;
        }
        all.extend(new.into_iter().map(|(place, offset)| (name.clone(), place, offset)));
    }
    let text = if args.export { layout::csv(&all, names.len() > 1) } else { layout::reset(&all) };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn delete_offsets(cluster: &mut Cluster, args: &Args, names: &[String]) -> Result<(), Fault> {
    for name in names {
        let places: Vec<Place> = reset::places(cluster, name, &args.topic)?;
        let outcome = groups::delete_offsets(cluster, name, &places);
        if let Err(fault @ (Fault::Connection(_) | Fault::ReaderLeft)) = outcome {
            return Err(fault);
        }
        let text = layout::deleted_offsets(name, &args.topic, &outcome);
        std::io::stdout().write_all(text.as_bytes())?;
    }
    Ok(())
}
