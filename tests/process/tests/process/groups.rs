//! Consumer groups through the SDK: every record is processed, whoever comes, dies and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_client::{
    Client, Config, GroupOptions, GroupStart, Producer, ProducerConfig, RebalanceListener, Record, Trust,
};
use tests_process::{Broker, Options, directory};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

const TOPIC: &str = "work";
const PARTITIONS: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(90);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn options(dir: &std::path::Path) -> Options {
    Options::new(dir).env("MILLSTREAM_KAFKA__GROUP__INITIAL__REBALANCE__DELAY__MS", 100)
}

async fn client(broker: &Broker) -> Client {
    let config = Config::new([broker.options.listen.to_string()])
        .with_trust(Trust::DataDir(broker.options.data.clone()));
    Client::connect(config).await.unwrap()
}

/// What all members have done.
#[derive(Default)]
struct Board {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    seen: BTreeMap<u64, u32>,
    owned: BTreeMap<usize, Vec<(String, u32)>>,
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
    }

    async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_so(&self.state.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            let state = self.state.lock().unwrap();
            panic!("not within {DEADLINE:?}: {what}; {} seen, owned {:?}", state.seen.len(), state.owned);
        }
    }

    /// So many members, all partitions theirs, one owner each, nobody with two more than another.
    async fn until_shared_by(&self, members: usize) {
        self.until(&format!("{members} members share the partitions"), |state| {
            let all: Vec<_> = state.owned.values().flatten().collect();
            let each: BTreeSet<_> = all.iter().collect();
            let counts: Vec<usize> = state.owned.values().map(Vec::len).collect();
            state.owned.len() == members
                && all.len() == PARTITIONS as usize
                && each.len() == all.len()
                && counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1
        })
        .await;
    }

    async fn until_seen(&self, all: std::ops::Range<u64>) {
        self.until("every record is processed", |state| all.clone().all(|n| state.seen.contains_key(&n)))
            .await;
    }
}

struct Listener {
    board: Arc<Board>,
    number: usize,
}

impl RebalanceListener for Listener {
    fn assigned(&self, partitions: &[(String, u32)]) {
        self.board.change(|state| _ = state.owned.insert(self.number, partitions.to_vec()));
    }

    fn revoked(&self, _: &[(String, u32)]) {
        self.board.change(|state| _ = state.owned.remove(&self.number));
    }

    fn lost(&self, partitions: &[(String, u32)]) {
        self.revoked(partitions);
    }
}

struct Member {
    end: oneshot::Sender<End>,
    task: JoinHandle<()>,
}

#[derive(Debug, PartialEq)]
enum End {
    Close,
    /// Without a word.
    Die,
}

impl Member {
    fn start(client: &Client, board: &Arc<Board>, number: usize, group: &str) -> Self {
        let (end, told) = oneshot::channel();
        let task = tokio::spawn(work(client.clone(), Arc::clone(board), number, group.to_owned(), told));
        Self { end, task }
    }

    async fn end(self, how: End) {
        self.end.send(how).unwrap();
        self.task.await.unwrap();
    }
}

async fn work(
    client: Client,
    board: Arc<Board>,
    number: usize,
    group: String,
    mut told: oneshot::Receiver<End>,
) {
    let mut options = GroupOptions::default();
    options.start = GroupStart::Beginning;
    options.session_timeout = Duration::from_secs(6);
    options.heartbeat_interval = Duration::from_millis(100);
    options.auto_commit = Some(Duration::from_millis(200));
    options.listener = Some(Arc::new(Listener { board: Arc::clone(&board), number }));
    let mut consumer = client.join_group(group, [TOPIC], options).await.unwrap();
    loop {
        tokio::select! {
            batch = consumer.next() => {
                let batch = batch.unwrap();
                board.change(|state| {
                    for record in batch.records() {
                        let value = record.unwrap().value.unwrap().try_into().unwrap();
                        *state.seen.entry(u64::from_le_bytes(value)).or_default() += 1;
                    }
                });
            }
            how = &mut told => {
                match how.unwrap() {
                    End::Close => consumer.close().await.unwrap(),
                    End::Die => drop(consumer),
                }
                board.change(|state| _ = state.owned.remove(&number));
                return;
            }
        }
    }
}

async fn produce(producer: &Producer, numbers: std::ops::Range<u64>) {
    let mut sent = Vec::new();
    for n in numbers {
        let value = n.to_le_bytes();
        let record = Record::new(TOPIC, &value).partition((n % u64::from(PARTITIONS)) as u32);
        sent.push(producer.send(record).await.unwrap());
    }
    for delivery in sent {
        delivery.await.unwrap();
    }
}

#[test]
fn one_to_five_members_process_every_record_while_one_dies_and_comes_back() {
    let dir = directory();
    let broker = Broker::start(options(dir.path()));
    broker.cli().create(TOPIC, PARTITIONS);
    block_on(async {
        let client = client(&broker).await;
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let board = Arc::new(Board::default());
        let mut members = Vec::new();
        let mut next = 0;
        for number in 0..5 {
            members.push(Member::start(&client, &board, number, "g"));
            produce(&producer, next..next + 300).await;
            next += 300;
            board.until_shared_by(number + 1).await;
            board.until_seen(0..next).await;
        }
        // One that has work dies without a word, one comes back in its place.
        let dead =
            board.state.lock().unwrap().owned.iter().find(|(_, owned)| !owned.is_empty()).map(|(n, _)| *n);
        members.remove(dead.unwrap()).end(End::Die).await;
        produce(&producer, next..next + 300).await;
        next += 300;
        board.until_shared_by(4).await;
        members.push(Member::start(&client, &board, 9, "g"));
        board.until_shared_by(5).await;
        produce(&producer, next..next + 300).await;
        next += 300;
        board.until_seen(0..next).await;
        for member in members {
            member.end(End::Close).await;
        }
        // What was closed was committed: another generation of members finds nothing to do.
        let doubled = board.state.lock().unwrap().seen.values().filter(|count| **count > 1).count();
        let again = Arc::new(Board::default());
        let late = Member::start(&client, &again, 0, "g");
        again.until_shared_by(1).await;
        produce(&producer, next..next + 3).await;
        again.until_seen(next..next + 3).await;
        assert_eq!(again.state.lock().unwrap().seen.len(), 3, "{doubled} were processed twice before");
        late.end(End::Close).await;
        producer.close().await.unwrap();
    });
}

#[test]
fn two_groups_see_every_record_each_across_a_kill_of_the_broker() {
    let dir = directory();
    let mut broker = Broker::start(options(dir.path()));
    broker.cli().create(TOPIC, PARTITIONS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = client(&broker).await;
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let boards = [Arc::new(Board::default()), Arc::new(Board::default())];
        let mut members = Vec::new();
        for (board, group) in boards.iter().zip(["g", "h"]) {
            members.extend((0..2).map(|number| Member::start(&client, board, number, group)));
        }
        for board in &boards {
            board.until_shared_by(2).await;
        }
        produce(&producer, 0..900).await;
        tokio::task::block_in_place(|| {
            broker.kill9();
            broker.restart();
        });
        produce(&producer, 900..1800).await;
        for board in &boards {
            board.until_seen(0..1800).await;
        }
        for member in members {
            member.end(End::Close).await;
        }
        producer.close().await.unwrap();
    });
}

#[test]
fn the_command_line_goes_on_where_its_group_was() {
    let dir = directory();
    let broker = Broker::start(options(dir.path()));
    let cli = broker.cli();
    cli.create("words", 1);
    cli.run_with(&["produce", "words"], b"one\ntwo\nthree\nfour\n".to_vec()).expect(0);
    let consume = |count: &str, more: &[&str]| {
        let args = ["consume", "words", "--group", "readers", "--from-beginning", "--max-records", count];
        cli.run(&[&args[..], more].concat()).expect(0).text()
    };
    // In the middle of a batch; and a look that commits nothing.
    assert_eq!(consume("2", &[]), "one\ntwo\n");
    assert_eq!(consume("1", &["--commit", "none"]), "three\n");
    assert_eq!(consume("2", &["--assignor", "range"]), "three\nfour\n");
    cli.run(&["consume", "words", "--group", "readers", "--offset", "1"]).expect(2);
}
