//! Connections of Kafka's clients: two streams of bytes each, which arrive in order, in pieces cut anywhere.
//!
//! A direction holds so many bytes, written and not read, and no more: whoever writes to somebody who does not read
//! finds it full. A close stands behind the last byte. A cut loses what is under way from some byte on, and each side
//! hears of it in its own time: one may have begun anew while the other still reads what came before.
//!
//! Does not know: what the bytes mean, who reads them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::faults::DELAY_MIN;
use crate::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipeId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Node,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Node,
            Self::Node => Self::Client,
        }
    }
}

/// How connections are, drawn once for each run.
#[derive(Debug, Clone)]
pub struct Roads {
    /// One way, at most.
    pub delay_max: Duration,
    /// Of one direction.
    pub room_bytes: usize,
    /// Of one piece, at most.
    pub piece_bytes_max: usize,
}

/// What one side finds when it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub bytes: Bytes,
    /// Nothing will follow.
    pub is_end: bool,
}

#[derive(Debug, Default)]
struct Stream {
    flying: VecDeque<(Duration, Bytes)>,
    flying_bytes: usize,
    arrived: BytesMut,
    last_arrival: Duration,
    /// Its reader hears then that nothing follows.
    end_at: Option<Duration>,
    is_cut: bool,
    /// Nobody reads it any more.
    is_deaf: bool,
}

#[derive(Debug, Default)]
struct Pipe {
    to_node: Stream,
    to_client: Stream,
}

impl Pipe {
    fn to(&mut self, side: Side) -> &mut Stream {
        match side {
            Side::Client => &mut self.to_client,
            Side::Node => &mut self.to_node,
        }
    }

    fn is_forgotten(&self) -> bool {
        self.to_node.is_deaf && self.to_client.is_deaf
    }
}

/// See the module.
#[derive(Debug)]
pub struct Tcp {
    roads: Roads,
    dice: Dice,
    pipes: BTreeMap<PipeId, Pipe>,
    opened: u64,
    /// Nothing arrives before: the network is out.
    out_until: Duration,
    /// When something may have changed for somebody.
    due: Vec<(Duration, PipeId)>,
}

/// How much later than the other one side may hear of a cut.
const UNHEARD_MAX: Duration = Duration::from_secs(2);

impl Tcp {
    #[must_use]
    pub fn new(seed: u64, roads: Roads) -> Self {
        let dice = Dice::new(seed, "tcp");
        Self { roads, dice, pipes: BTreeMap::new(), opened: 0, out_until: Duration::ZERO, due: Vec::new() }
    }

    /// Moments at which [`read`](Self::read) or [`write`](Self::write) may find something else than before.
    pub fn take_due(&mut self) -> Vec<(Duration, PipeId)> {
        std::mem::take(&mut self.due)
    }

    /// Fair from now on, for what is under way as well.
    pub fn heal(&mut self, now: Duration) {
        self.out_until = Duration::ZERO;
        self.roads.delay_max = DELAY_MIN;
        for (id, pipe) in &mut self.pipes {
            pipe.to_node.hurry(now);
            pipe.to_client.hurry(now);
            self.due.push((now, *id));
        }
    }

    /// Nothing arrives before `until`; nothing is lost.
    pub fn hold(&mut self, until: Duration) {
        self.out_until = until;
    }

    /// A client dials. It may write at once; the node hears of it a moment later.
    pub fn open(&mut self, now: Duration) -> PipeId {
        self.opened += 1;
        let id = PipeId(self.opened);
        let mut pipe = Pipe::default();
        pipe.to_node.last_arrival = self.arrival(now, now);
        self.due.push((pipe.to_node.last_arrival, id));
        self.pipes.insert(id, pipe);
        id
    }

    /// Connections that a client holds.
    pub fn held(&self) -> impl Iterator<Item = PipeId> + '_ {
        self.pipes.iter().filter(|(_, pipe)| !pipe.to_client.is_deaf).map(|(id, _)| *id)
    }

    /// Takes what there is room for. `None`: the connection is broken.
    pub fn write(&mut self, now: Duration, id: PipeId, from: Side, bytes: &[u8]) -> Option<usize> {
        let room_bytes = self.roads.room_bytes;
        let pipe = self.pipes.get_mut(&id)?;
        let back = pipe.to(from);
        if back.end_at.is_some_and(|at| at <= now) && (back.is_cut || from == Side::Node) {
            return None;
        }
        let stream = pipe.to(from.other());
        // Lost on the way, or never read: whoever writes finds out later.
        if stream.is_deaf || stream.end_at.is_some() {
            return Some(bytes.len());
        }
        let room = room_bytes.saturating_sub(stream.flying_bytes + stream.arrived.len());
        let taken = &bytes[..room.min(bytes.len())];
        let mut rest = taken;
        while !rest.is_empty() {
            let most = self.roads.piece_bytes_max.min(rest.len()) as u64;
            let (piece, behind) = rest.split_at(self.dice.within(1..=most) as usize);
            rest = behind;
            let after = self.pipes[&id].last_arrival(from.other());
            let at = self.arrival(now, after);
            let stream = self.pipes.get_mut(&id).expect("just seen").to(from.other());
            stream.flying.push_back((at, Bytes::copy_from_slice(piece)));
            stream.flying_bytes += piece.len();
            stream.last_arrival = at;
            self.due.push((at, id));
        }
        Some(taken.len())
    }

    /// Whether [`write`](Self::write) would take something, or say that the connection is broken.
    #[must_use]
    pub fn is_writable(&mut self, now: Duration, id: PipeId, from: Side) -> bool {
        let room_bytes = self.roads.room_bytes;
        let Some(pipe) = self.pipes.get_mut(&id) else { return true };
        let is_broken = pipe.to(from).end_at.is_some_and(|at| at <= now);
        let stream = pipe.to(from.other());
        let is_full = stream.flying_bytes + stream.arrived.len() >= room_bytes;
        is_broken || stream.is_deaf || stream.end_at.is_some() || !is_full
    }

    /// How many bytes [`read`](Self::read) would find, and whether it would find the end.
    pub fn readable(&mut self, now: Duration, id: PipeId, to: Side) -> (usize, bool) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return (0, true) };
        let stream = pipe.to(to);
        stream.arrive(now);
        (stream.arrived.len(), stream.is_over(now))
    }

    /// At most `bytes_max` of what has arrived.
    pub fn read(&mut self, now: Duration, id: PipeId, to: Side, bytes_max: usize) -> Heard {
        let room_bytes = self.roads.room_bytes;
        let Some(pipe) = self.pipes.get_mut(&id) else { return Heard { bytes: Bytes::new(), is_end: true } };
        let stream = pipe.to(to);
        stream.arrive(now);
        let was_full = stream.flying_bytes + stream.arrived.len() >= room_bytes;
        let bytes = stream.arrived.split_to(bytes_max.min(stream.arrived.len())).freeze();
        let is_end = stream.is_over(now);
        if was_full && !bytes.is_empty() {
            let at = self.arrival(now, now);
            self.due.push((at, id));
        }
        Heard { bytes, is_end }
    }

    /// `from` says no more behind what it has written.
    pub fn finish(&mut self, now: Duration, id: PipeId, from: Side) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let after = pipe.last_arrival(from.other());
        if pipe.to(from.other()).end_at.is_none() {
            let at = self.arrival(now, after);
            self.pipes.get_mut(&id).expect("just seen").to(from.other()).end_at = Some(at);
            self.due.push((at, id));
        }
    }

    /// And hears nothing any more.
    pub fn close(&mut self, now: Duration, id: PipeId, from: Side) {
        self.finish(now, id, from);
        self.leave(id, from);
    }

    /// Whether that side hears nothing any more.
    #[must_use]
    pub fn has_left(&self, id: PipeId, side: Side) -> bool {
        self.pipes.get(&id).is_none_or(|pipe| match side {
            Side::Client => pipe.to_client.is_deaf,
            Side::Node => pipe.to_node.is_deaf,
        })
    }

    fn leave(&mut self, id: PipeId, side: Side) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        pipe.to(side).is_deaf = true;
        if pipe.is_forgotten() {
            self.pipes.remove(&id);
        }
    }

    /// `from` is gone without a word: what it had written is lost from some byte on.
    pub fn abandon(&mut self, now: Duration, id: PipeId, from: Side) {
        self.cut_stream(now, id, from.other(), Duration::ZERO);
        self.leave(id, from);
    }

    /// The connection breaks between them.
    pub fn cut(&mut self, now: Duration, id: PipeId) {
        self.cut_stream(now, id, Side::Node, UNHEARD_MAX);
        self.cut_stream(now, id, Side::Client, UNHEARD_MAX);
    }

    fn cut_stream(&mut self, now: Duration, id: PipeId, to: Side, unheard_max: Duration) {
        let unheard = self.dice.duration(Duration::ZERO..=unheard_max);
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let stream = pipe.to(to);
        if stream.is_cut {
            return;
        }
        let mut kept = self.dice.below(stream.flying_bytes as u64 + 1) as usize;
        stream.flying_bytes = kept;
        for (_, piece) in &mut stream.flying {
            piece.truncate(kept);
            kept -= piece.len();
        }
        stream.is_cut = true;
        let at = (now + unheard).max(stream.last_arrival);
        stream.end_at = Some(stream.end_at.map_or(at, |before| before.min(at)));
        self.due.push((at, id));
    }

    fn arrival(&mut self, now: Duration, after: Duration) -> Duration {
        let delay = self.dice.duration(DELAY_MIN..=self.roads.delay_max.max(DELAY_MIN));
        (now + delay).max(after).max(self.out_until)
    }
}

impl Pipe {
    fn last_arrival(&self, to: Side) -> Duration {
        match to {
            Side::Client => self.to_client.last_arrival,
            Side::Node => self.to_node.last_arrival,
        }
    }
}

impl Stream {
    fn arrive(&mut self, now: Duration) {
        while let Some((_, piece)) = self.flying.pop_front_if(|(at, _)| *at <= now) {
            self.flying_bytes -= piece.len();
            self.arrived.extend_from_slice(&piece);
        }
    }

    /// Nothing arrives later than now.
    fn hurry(&mut self, now: Duration) {
        self.flying.iter_mut().for_each(|(at, _)| *at = now.min(*at));
        self.last_arrival = self.last_arrival.min(now);
        self.end_at = self.end_at.map(|at| at.min(now));
    }

    fn is_over(&self, now: Duration) -> bool {
        self.arrived.is_empty() && self.flying.is_empty() && self.end_at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tcp(room_bytes: usize) -> (Tcp, PipeId) {
        let roads = Roads { delay_max: Duration::from_millis(5), room_bytes, piece_bytes_max: 7 };
        let mut tcp = Tcp::new(3, roads);
        let pipe = tcp.open(Duration::ZERO);
        (tcp, pipe)
    }

    #[test]
    fn bytes_arrive_in_order_whatever_pieces_they_come_in() {
        let (mut tcp, pipe) = tcp(1000);
        let said: Vec<u8> = (0..200).collect();
        assert_eq!(tcp.write(Duration::ZERO, pipe, Side::Client, &said), Some(200));
        tcp.close(Duration::ZERO, pipe, Side::Client);
        let mut heard = Vec::new();
        let mut is_end = false;
        for (at, _) in tcp.take_due() {
            let read = tcp.read(at, pipe, Side::Node, 1000);
            heard.extend_from_slice(&read.bytes);
            is_end |= read.is_end;
        }
        assert!(is_end && heard == said, "all of it, then the end");
    }

    #[test]
    fn who_does_not_read_holds_the_writer_up() {
        let (mut tcp, pipe) = tcp(10);
        assert_eq!(tcp.write(Duration::ZERO, pipe, Side::Node, &[1; 30]), Some(10));
        assert_eq!(tcp.write(SECOND, pipe, Side::Node, &[1; 30]), Some(0));
        assert!(!tcp.is_writable(SECOND, pipe, Side::Node));
        tcp.take_due();
        assert_eq!(tcp.read(SECOND, pipe, Side::Client, 4).bytes.len(), 4);
        assert_eq!(tcp.take_due().len(), 1, "the writer is told that there is room");
        assert!(tcp.is_writable(SECOND, pipe, Side::Node));
        assert_eq!(tcp.write(SECOND, pipe, Side::Node, &[1; 30]), Some(4));
    }

    #[test]
    fn a_cut_leaves_a_beginning_and_both_hear_of_it() {
        let (mut tcp, pipe) = tcp(1000);
        let said: Vec<u8> = (0..200).collect();
        tcp.write(Duration::ZERO, pipe, Side::Client, &said);
        tcp.cut(Duration::ZERO, pipe);
        let late = UNHEARD_MAX + SECOND;
        let heard = tcp.read(late, pipe, Side::Node, 1000);
        assert!(said.starts_with(&heard.bytes) && heard.is_end, "{heard:?}");
        assert!(tcp.read(late, pipe, Side::Client, 1000).is_end);
        assert_eq!(tcp.write(late, pipe, Side::Client, b"x"), None);
        assert_eq!(tcp.write(late, pipe, Side::Node, b"x"), None);
    }

    #[test]
    fn what_is_under_way_arrives_when_the_network_heals() {
        let (mut tcp, pipe) = tcp(1000);
        tcp.hold(9 * SECOND);
        tcp.write(Duration::ZERO, pipe, Side::Client, b"held");
        assert!(tcp.read(SECOND, pipe, Side::Node, 1000).bytes.is_empty());
        tcp.heal(SECOND);
        assert_eq!(tcp.read(SECOND, pipe, Side::Node, 1000).bytes, "held");
    }

    #[test]
    fn what_both_sides_have_left_is_forgotten() {
        let (mut tcp, pipe) = tcp(1000);
        tcp.close(Duration::ZERO, pipe, Side::Client);
        assert!(!tcp.has_left(pipe, Side::Node) && tcp.held().next().is_none());
        tcp.close(SECOND, pipe, Side::Node);
        assert!(tcp.pipes.is_empty());
    }
}
