//! Clients, a broker and a link that do anything at any time. Nothing may panic, nothing may be left behind.

use std::time::Duration;

use bytes::Bytes;
use engine_api::{Acks, FetchError, Fetched, ProduceError, Request, Response};
use net_wire::encode;
use quinn_proto::StreamId;
use storage_frame::Offset;

use super::world::*;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % bound as u64) as usize
    }
}

fn play(seed: u64) {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ (seed << 8 | 1));
    let mut world = World::new();
    let clients: Vec<usize> = (0..3).map(|_| world.connect()).collect();
    world.lost_of_1000 = [0, 20, 200][dice.below(3)];
    world.jitter = Duration::from_millis([0, 3, 30][dice.below(3)]);
    let mut streams: Vec<(usize, StreamId)> = Vec::new();
    let mut answered = 0;
    for step in 0..400 {
        let client = clients[dice.below(clients.len())];
        let pick = |dice: &mut Dice, streams: &[(usize, StreamId)]| {
            (!streams.is_empty()).then(|| streams[dice.below(streams.len())])
        };
        match dice.below(20) {
            0..=3 if world.clients[client].quic.is_closed() => {}
            0 | 1 if streams.len() < 60 => streams.push((client, world.open_produce(client))),
            2 if streams.len() < 60 => {
                streams.push((client, world.open_read(client, dice.below(3) as u64, 0)))
            }
            3 if streams.len() < 60 => {
                streams.push((client, world.open_request(client, step, &Request::InitProducer)));
            }
            4..=7 => {
                if let Some((client, id)) = pick(&mut dice, &streams) {
                    let acks = [Acks::None, Acks::Leader, Acks::All][dice.below(3)];
                    world.produce(client, id, step, acks, &frame(dice.below(30_000)));
                }
            }
            8 => {
                if let Some((client, id)) = pick(&mut dice, &streams) {
                    let garbage: Vec<u8> = (0..dice.below(50)).map(|_| dice.below(256) as u8).collect();
                    world.send(client, id, garbage);
                }
            }
            9 => {
                if let Some((client, id)) = pick(&mut dice, &streams) {
                    let whole = encode::request(step, &Request::DescribeCluster);
                    world.send(client, id, whole.slice(..dice.below(whole.len() + 1)));
                    world.finish(client, id);
                }
            }
            10 => {
                if let Some((client, id)) = pick(&mut dice, &streams) {
                    world.try_stop(client, id);
                }
            }
            11 => {
                if let Some((client, id)) = pick(&mut dice, &streams) {
                    world.try_reset(client, id);
                }
            }
            12 => {
                if let Some((client, id)) = pick(&mut dice, &streams) {
                    let reads = dice.below(2) == 0;
                    world.stream(client, id).reads &= reads;
                }
            }
            13 => world.server.set_paused(world.now, true),
            14 | 15 => world.server.set_paused(world.now, false),
            16 if dice.below(30) == 0 => {
                let now = world.now;
                world.clients[client].quic.close(now, 0u32.into(), Bytes::new());
            }
            _ => {
                let ticks = [1, 5, 100, 5000][dice.below(4)];
                world.run(Duration::from_millis(ticks));
            }
        }
        // Some answers, in any order.
        world.drive_broker();
        for _ in 0..dice.below(6) {
            if world.broker.open.is_empty() {
                break;
            }
            let at = dice.below(world.broker.open.len());
            let (key, request) = world.broker.open[at].clone();
            let fails = dice.below(20) == 0;
            let response = match request {
                Request::Produce(_) if fails => Response::Produce(Err(ProduceError::Overloaded)),
                Request::Produce(_) => Response::Produce(Ok(produced(step))),
                Request::Fetch(_) if fails => Response::Fetch(Err(FetchError::ShuttingDown)),
                Request::Fetch(fetch) => {
                    let mut next = frame(dice.below(50_000));
                    next.assign(fetch.offset, storage_frame::LeaderEpoch(1));
                    let high_watermark = Offset(fetch.offset.0 + 1);
                    Response::Fetch(Ok(Fetched {
                        log_start: Offset::ZERO,
                        high_watermark,
                        frames: vec![next],
                    }))
                }
                _ => Response::InitProducer(Ok(step)),
            };
            world.answer(key, response);
            answered += 1;
            // A second answer to the same key finds nobody.
            world.server.handle_response(world.now, key, Response::InitProducer(Ok(0)));
        }
    }
    world.server.set_paused(world.now, false);
    world.run(Duration::from_secs(1));
    world.drive_broker();
    assert_eq!(world.server.stats().requests_open, world.broker.open.len() as u64);
    assert_eq!(world.broker.asked, answered + world.broker.cancelled.len() + world.broker.open.len());
    let now = world.now;
    for client in clients {
        world.clients[client].quic.close(now, 0u32.into(), Bytes::new());
    }
    world.run(Duration::from_secs(60));
    world.drive_broker();
    let stats = world.server.stats();
    assert_eq!(
        (stats.connections, stats.streams_open, stats.requests_open, stats.send_buffered_bytes),
        (0, 0, 0, 0),
        "seed {seed}"
    );
    assert_eq!(world.broker.asked, answered + world.broker.cancelled.len());
    assert_eq!(world.server.partial_bytes(), 0);
}

#[test]
fn whatever_happens_nothing_is_left_behind() {
    for seed in 0..25 {
        play(seed);
    }
}
