//! Kills at moments that nobody chose, with producers, readers and changes of topics under way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use millstream_client::{Client, CreateTopic, RequestError, TopicError, TopicId};
use nix::sys::signal::Signal;
use tests_process::clients::Load;
use tests_process::{Broker, Chance, Clients, Options, directory};

const STOP_MAX: Duration = Duration::from_secs(10);

/// Each round lets the broker serve for a while; then it is killed, sometimes in the middle of an orderly end, and
/// its next starts are killed, too, before they are ready or soon after, until one is left alone.
#[test]
fn kills_at_any_moment_lose_nothing_and_keep_every_promise() {
    let mut chance = Chance::new(300);
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    broker.cli().create("chaos", 4);
    // Segments of the smallest size, so that rolls and their checkpoints are killed as well.
    let rolling = ["topic", "create", "rolling", "--partitions", "2", "--config", "segment.bytes=1048576"];
    broker.cli().run(&rolling).expect(0);
    let clients = Clients::new(&broker.options);
    let producers = [
        clients.produce("chaos", Load::new(chance.draw())),
        clients.produce("chaos", Load::new(chance.draw())),
        clients.produce("rolling", Load { value_bytes_max: 4_000, ..Load::new(chance.draw()) }),
    ];
    let followers = [clients.follow("chaos"), clients.follow("rolling")];
    let admin = Changes::begin(&clients);
    let rounds = if tests_process::soak() { 200 } else { 8 };
    for round in 0..rounds {
        clients.wait_for_acks(1 + chance.below(3_000) as usize);
        if chance.below(4) == 0 {
            broker.signal(Signal::SIGTERM);
            pass(&mut chance, Duration::from_millis(40));
        }
        broker.kill9();
        let whole_start = broker.ready_after.max(Duration::from_millis(50));
        for _ in 0..chance.below(4) {
            broker.restart_and_kill9(moment(&mut chance, whole_start * 3 / 2));
        }
        broker.restart();
        if round % 4 == 3 {
            clients.check("chaos");
            clients.check("rolling");
        }
    }
    admin.end(&clients);
    for producer in producers {
        assert_eq!(producer.end(&clients), [], "every record is acknowledged in the end");
    }
    for follower in followers {
        follower.end(&clients);
    }
    clients.check("chaos");
    clients.check("rolling");
    broker.sigterm(STOP_MAX).expect(0);
    broker.restart();
    clients.check("chaos");
    clients.check("rolling");
    let data = broker.options.data.to_str().expect("UTF-8").to_string();
    broker.kill9();
    broker.cli().run(&["log", "verify", &data]).expect(0);
}

fn moment(chance: &mut Chance, end: Duration) -> Duration {
    Duration::from_micros(chance.below(end.as_micros() as u64))
}

fn pass(chance: &mut Chance, end: Duration) {
    thread::park_timeout(moment(chance, end));
}

/// Makes and deletes topics all the time. What was answered holds ever after; what was not may be either way.
struct Changes {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<BTreeMap<String, Known>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    There(TopicId),
    Gone,
    Either,
}

impl Changes {
    fn begin(clients: &Clients) -> Changes {
        let client = clients.client();
        let stop = Arc::new(AtomicBool::new(false));
        let task = clients.spawn(change_until(Arc::clone(&stop), client));
        Changes { stop, task }
    }

    fn end(self, clients: &Clients) {
        self.stop.store(true, Ordering::Relaxed);
        let known = clients.block_on(self.task).expect("only possible answers");
        let client = clients.client();
        let listed = clients.block_on(client.admin().list_topics()).expect("the broker is there");
        let listed: BTreeMap<String, TopicId> = listed.into_iter().map(|t| (t.name, t.id)).collect();
        let answered = known.values().filter(|known| **known != Known::Either).count();
        eprintln!("{} changed topics, {answered} of them with an answer", known.len());
        for (name, known) in known {
            match known {
                Known::There(id) => assert_eq!(listed.get(&name), Some(&id), "{name}"),
                Known::Gone => assert_eq!(listed.get(&name), None, "{name}"),
                Known::Either => {}
            }
        }
    }
}

async fn change_until(stop: Arc<AtomicBool>, client: Client) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("changed-{n}");
        let made = create(&client, &name).await;
        known.insert(name.clone(), made);
        // Every third one stays.
        if n % 3 != 0 {
            known.insert(name.clone(), delete(&client, &name, made).await);
        }
        // A pace: a topic costs some files, and the test is about kills.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    known
}

async fn create(client: &Client, name: &str) -> Known {
    let topic =
        CreateTopic { name: name.to_string(), partitions: Some(2), replicas: None, configs: Vec::new() };
    match client.admin().create_topic(topic).await {
        Ok(made) => Known::There(made.id),
        Err(RequestError::Refused(error)) => panic!("{name} cannot be made: {error}"),
        Err(_) => Known::Either,
    }
}

async fn delete(client: &Client, name: &str, made: Known) -> Known {
    match client.admin().delete_topic(name).await {
        Ok(()) => Known::Gone,
        Err(RequestError::Refused(TopicError::Unknown { .. })) if made == Known::Either => Known::Gone,
        Err(RequestError::Refused(error)) => panic!("{name} was {made:?} and cannot be deleted: {error}"),
        Err(_) => Known::Either,
    }
}
