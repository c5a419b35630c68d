//! Metadata (`engine/meta`): commands and snapshots as they stand in the metadata log, and histories of commands.

use engine_api::{AlterTopic, CreateTopic, DeleteTopic, TopicId};
use engine_meta::{ClusterState, Command};

use crate::script::Script;

/// Commands are not checked again on replay, so a large number of partitions costs what it says.
const PARTITIONS_MAX: u32 = 1000;
const COMMANDS_MAX: usize = 200;

pub fn metadata(data: &[u8]) {
    let mut script = Script::new(data);
    match script.u8() % 3 {
        0 => command(script.rest()),
        1 => snapshot(script.rest()),
        _ => history(script),
    }
}

fn command(bytes: &[u8]) {
    let Ok(command) = Command::decode(bytes) else { return };
    assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command), "what is written is read back");
    let mut state = started();
    apply(&mut state, &command);
}

fn snapshot(bytes: &[u8]) {
    let Ok(mut state) = ClusterState::decode(bytes) else { return };
    comes_back(&state);
    let names: Vec<String> = state.topics().map(|topic| topic.name.clone()).collect();
    for name in names {
        let command = state.check_delete(&DeleteTopic { name, id: None }).expect("a topic that is there");
        apply(&mut state, &command);
    }
    assert_eq!((state.topics_count(), state.partitions_count()), (0, 0));
    let again =
        CreateTopic { name: "again".to_owned(), partitions: Some(3), replicas: None, configs: Vec::new() };
    if let Ok(command) = state.check_create(&again, TopicId(1), &[]) {
        apply(&mut state, &command);
    }
    comes_back(&state);
}

/// Two cores apply the same commands and stay the same; every command that was checked can be applied.
fn history(mut script: Script<'_>) {
    let mut state = started();
    let mut other = state.clone();
    for _ in 0..COMMANDS_MAX {
        if script.is_over() {
            break;
        }
        let Some(command) = next(&mut script, &state) else { continue };
        let before = state.clone();
        let outcome = state.apply(&command);
        assert_eq!(outcome, other.apply(&Command::decode(&command.encode()).expect("our own")));
        assert_eq!(state, other, "one history, one state");
        if outcome.is_err() {
            assert_eq!(state, before, "what is refused changes nothing");
        }
    }
    comes_back(&state);
}

fn next(script: &mut Script<'_>, state: &ClusterState) -> Option<Command> {
    let name = ["a", "b", "c", ".", ""][usize::from(script.u8() % 5)].to_owned();
    let id = TopicId(u128::from(script.u8() % 8));
    let number = script.u16();
    let partitions = (number & 1 == 0).then_some(u32::from(number >> 1) % 12);
    let checked = |command: Result<Command, engine_api::TopicError>| {
        let command = command.ok()?;
        let is_new = !matches!(&command, Command::CreateTopic { id, .. } if id == &0 || state.topic(TopicId(*id)).is_some());
        assert!(!is_new || state.clone().apply(&command).is_ok(), "{command:?} was checked and is refused");
        Some(command)
    };
    match script.u8() % 8 {
        0 => {
            let configs = vec![("retention.ms".to_owned(), number.to_string())];
            checked(state.check_create(&CreateTopic { name, partitions, replicas: None, configs }, id, &[]))
        }
        1 => {
            let value = (number & 2 == 0).then(|| number.to_string());
            let configs = vec![("segment.ms".to_owned(), value)];
            checked(state.check_alter(&AlterTopic { name, partitions, configs, based_on: None }, &[]))
        }
        2 => checked(state.check_delete(&DeleteTopic { name, id: None })),
        3 => Some(Command::AllocateProducerIds { count: number.into() }),
        4 => Some(Command::ForgetLogs { logs: vec![(u64::from(number >> 8), u64::from(number & 0xff))] }),
        5 => {
            let incarnation = u32::from(number >> 4);
            let (node, cores) = (1 + u32::from(number & 1), (number & 0xf) as u8);
            Some(Command::NodeStarted { cluster_id: 1, node, incarnation, cores, address: name })
        }
        6 => Some(Command::DeleteTopic { id: id.0 }),
        _ => Command::decode(script.piece()).ok().filter(is_small),
    }
}

/// Decoded or not, an unchecked command is applied whole or not at all.
fn apply(state: &mut ClusterState, command: &Command) {
    if !is_small(command) {
        return;
    }
    let before = state.clone();
    match state.apply(command) {
        Ok(()) => comes_back(state),
        Err(_) => assert_eq!(*state, before, "what is refused changes nothing"),
    }
}

fn is_small(command: &Command) -> bool {
    match command {
        Command::CreateTopic { partitions, .. } => *partitions <= PARTITIONS_MAX,
        Command::AlterTopic { partitions, .. } => partitions.unwrap_or(0) <= PARTITIONS_MAX,
        Command::NodeStarted { .. }
        | Command::DeleteTopic { .. }
        | Command::AllocateProducerIds { .. }
        | Command::ForgetLogs { .. } => true,
    }
}

fn comes_back(state: &ClusterState) {
    assert_eq!(ClusterState::decode(&state.encode()).as_ref(), Ok(state), "what is written is read back");
}

fn started() -> ClusterState {
    let mut state = ClusterState::default();
    let address = "127.0.0.1:9092".to_owned();
    let started = Command::NodeStarted { cluster_id: 1, node: 1, incarnation: 1, cores: 3, address };
    state.apply(&started).expect("the first start");
    state
}
