//! Clients on the real SDK, each a task that does what its dice say.
//!
//! - [`note`]: what they did and learned.
//! - `producing`, `reading`, `admin`: one life of a client each; `hostile`: of one that is not on the SDK.
//!
//! Bounded in count and in time: nothing begins after [`SdkPlan::until`], and what had begun by then ends by the
//! timeouts it was given, [`ENDING_MAX`] later at most, whether or not anybody answers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use millstream_client::{Client, Config};
use tokio::task::JoinSet;
use tokio::time::sleep;

mod admin;
mod hostile;
pub mod note;
mod producing;
mod reading;

pub use note::{AdminAnswer, AdminAsk, Journal, Named, Noted, ReadRecord, SdkNote, Stored};

use crate::dice::Dice;
use crate::fact::ClientId;
use crate::net::{Machine, Net, tls};

/// What the clients of a run are to do.
#[derive(Debug, Clone)]
pub struct SdkPlan {
    /// `host:port` of nodes.
    pub servers: Vec<String>,
    /// Topics that clients share. They need not exist yet.
    pub topics: Vec<String>,
    pub producers: u32,
    pub readers: u32,
    pub admins: u32,
    /// Clients that are not on the SDK and break what rules there are.
    pub hostiles: u32,
    /// The first client's number; the others follow.
    pub first_client: u32,
    /// No client begins anything after this.
    pub until: Duration,
    /// Of each life of a producer.
    pub records_max: u32,
    pub value_bytes_max: u32,
    /// Of each client.
    pub lives_max: u32,
    /// Records of shared topics may be deleted.
    pub deletes_records: bool,
    /// Clients may make, change and delete topics of their own.
    pub changes_topics: bool,
    /// Machines may die, with requests in flight.
    pub dies: bool,
    /// Until then addresses may change in the middle of connections, and of their handshakes, which does not go on then
    /// (RFC 9000, 9).
    pub moves_until: Duration,
}

/// From [`SdkPlan::until`] to the end of the last client.
pub const ENDING_MAX: Duration = Duration::from_secs(90);

/// What one client has.
pub(crate) struct Cast<'a> {
    net: &'a Net,
    plan: &'a SdkPlan,
    journal: Journal,
    id: ClientId,
    dice: Dice,
    /// Lanes are numbered through all lives.
    next_lane: u32,
    life: u32,
}

/// One life's connection to the world.
struct Life {
    machine: Machine,
    client: Client,
}

/// Runs all clients of `plan` to their end.
pub async fn run(net: &Net, plan: &SdkPlan, seed: u64, journal: &Journal) {
    let mut tasks = JoinSet::new();
    let roles = [
        (Role::Producer, plan.producers),
        (Role::Reader, plan.readers),
        (Role::Admin, plan.admins),
        (Role::Hostile, plan.hostiles),
    ];
    let mut number = plan.first_client;
    for (role, count) in roles {
        for _ in 0..count {
            let (net, plan, journal) = (net.clone(), plan.clone(), journal.clone());
            let id = ClientId(number);
            number += 1;
            tasks.spawn(async move { play(&net, &plan, journal, role, id, seed).await });
        }
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Producer,
    Reader,
    Admin,
    Hostile,
}

async fn play(net: &Net, plan: &SdkPlan, journal: Journal, role: Role, id: ClientId, seed: u64) {
    let dice = Dice::new(seed, &format!("sdk client {}", id.0));
    let mut cast = Cast { net, plan, journal, id, dice, next_lane: 0, life: 0 };
    cast.pause(Duration::from_millis(200)).await;
    while cast.life < plan.lives_max && !cast.is_late() {
        cast.life += 1;
        if matches!(role, Role::Hostile) {
            cast.be_hostile().await;
            continue;
        }
        match cast.connect().await {
            Some(life) => match role {
                Role::Producer => cast.produce(life).await,
                Role::Reader => cast.read(life).await,
                Role::Admin => cast.administer(life).await,
                Role::Hostile => unreachable!("has no life of the SDK's"),
            },
            None => cast.pause(Duration::from_secs(2)).await,
        }
    }
    cast.note(SdkNote::Ended);
}

impl Cast<'_> {
    fn note(&self, note: SdkNote) {
        self.journal.note(self.id, note);
    }

    fn is_late(&self) -> bool {
        self.net.now() >= self.plan.until
    }

    /// Sleeps up to `most`.
    async fn pause(&mut self, most: Duration) {
        let span = self.dice.duration(Duration::ZERO..=most);
        sleep(span).await;
    }

    /// Each life has a machine of its own, so that a dead one stays dead.
    fn machine(&mut self) -> Machine {
        let client = self.id.0.to_be_bytes();
        let life = (self.life % 200) as u8 + 1;
        let ip = IpAddr::V4(Ipv4Addr::new(10, life, client[2], client[3]));
        let machine = Machine::new(self.net, ip, self.dice.roll());
        if self.dice.chance(300_000) {
            machine.set_skew_ms(self.dice.below(20_000) as i64 - 10_000);
        }
        machine
    }

    async fn connect(&mut self) -> Option<Life> {
        let machine = self.machine();
        let dice = &mut self.dice;
        let mut config = Config::new(self.plan.servers.clone()).with_trust(tls::trust());
        let seconds = |dice: &mut Dice, low: u64, high: u64| {
            Duration::from_millis(dice.within(low * 1000..=high * 1000))
        };
        config.connect_timeout = seconds(dice, 1, 5);
        config.request_timeout = seconds(dice, 2, 10);
        config.idle_timeout = seconds(dice, 2, 10);
        config.metadata_age_max = seconds(dice, 1, 60);
        config.force_core = dice.chance(200_000).then(|| dice.below(4) as u8);
        config.outside = Some(machine.outside());
        match Client::connect(config).await {
            Ok(client) => {
                self.note(SdkNote::Connected);
                Some(Life { machine, client })
            }
            Err(error) => {
                self.note(SdkNote::ConnectFailed { why: error.to_string() });
                None
            }
        }
    }

    fn topic(&mut self) -> Option<String> {
        if self.plan.topics.is_empty() { None } else { Some(self.dice.pick(&self.plan.topics).clone()) }
    }

    /// Now and then the client's address changes.
    fn move_sometimes(&mut self, life: &Life) {
        if self.net.now() < self.plan.moves_until && self.dice.chance(10_000) {
            life.machine.rebind();
        }
    }
}
