//! Lines of stdin, in large pieces: a thread of its own reads blocks, the command cuts them into lines.
//!
//! At most [`BLOCKS_MAX`] blocks are read ahead. A line longer than [`LINE_BYTES_MAX`] is not kept: it is cut
//! out and counted. When asked to stop, nothing more is read and everything read before is still given.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::mpsc;

const BLOCK_BYTES: usize = 1 << 20;
const BLOCKS_MAX: usize = 4;
/// More than any record may have.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// Blocks of an input, read ahead.
#[derive(Debug)]
pub struct Blocks {
    receiver: mpsc::Receiver<io::Result<Vec<u8>>>,
    shared: Arc<Shared>,
}

/// Between the thread that reads and whoever takes blocks from it.
#[derive(Debug, Default)]
struct Shared {
    /// Asked for by the taker, looked at after each block handed over.
    stop: AtomicBool,
    /// The thread has a block that it will hand over.
    in_hand: AtomicBool,
    /// The input has ended, and everything was handed over.
    ended: AtomicBool,
}

impl Blocks {
    /// Reads stdin to its end on a thread that is left behind when nobody listens any more.
    pub fn of_stdin() -> io::Result<Self> {
        Self::of(io::stdin())
    }

    fn of(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(BLOCKS_MAX);
        let shared = Arc::new(Shared::default());
        let thread_shared = Arc::clone(&shared);
        thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || read_all(input, &sender, &thread_shared))?;
        Ok(Self { receiver, shared })
    }

    /// Reads no more: [`next`](Self::next) gives what was read before and then ends.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }

    /// The next block, `None` after the last. Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.shared.stop.load(Ordering::SeqCst) {
            // Looked at before the channel: a block that is out of hand is in the channel.
            if !self.shared.in_hand.load(Ordering::SeqCst) {
                return self.receiver.try_recv().ok();
            }
            // It is handed over, or the thread ends behind one that was handed over already.
        }
        self.receiver.recv().await
    }

    /// After the last block: the input itself has ended, so that its last line is whole without a LF.
    pub fn is_at_end(&self) -> bool {
        self.shared.ended.load(Ordering::SeqCst)
    }
}

fn read_all(mut input: impl Read, sender: &mpsc::Sender<io::Result<Vec<u8>>>, shared: &Shared) {
    loop {
        let mut block = vec![0; BLOCK_BYTES];
        let read = loop {
            match input.read(&mut block) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        shared.in_hand.store(true, Ordering::SeqCst);
        let block = match read {
            Ok(0) => {
                shared.ended.store(true, Ordering::SeqCst);
                return;
            }
            Ok(bytes) => {
                block.truncate(bytes);
                Ok(block)
            }
            Err(e) => Err(e),
        };
        let failed = block.is_err();
        if sender.blocking_send(block).is_err() || failed {
            return;
        }
        shared.in_hand.store(false, Ordering::SeqCst);
        // After the block is out of hand: whoever saw it in hand when stopping waits for this.
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Cuts blocks into lines. The LF is not part of a line, a CR before it is.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// No LF is before it.
    searched: usize,
    line_bytes_max: usize,
    skipping: bool,
    /// Lines that were cut out because they are too long.
    pub too_long_count: u64,
}

impl Lines {
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, searched: 0, line_bytes_max, skipping: false, too_long_count: 0 }
    }

    /// Adds a block; lines taken before are forgotten.
    pub fn add(&mut self, block: Vec<u8>) {
        assert!(self.start <= self.searched && self.searched <= self.buffer.len());
        if self.start == self.buffer.len() {
            self.buffer = block;
            self.searched = 0;
        } else {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.buffer.extend_from_slice(&block);
        }
        self.start = 0;
    }

    /// The next whole line, as a range of [`bytes`](Self::bytes).
    pub fn next_range(&mut self) -> Option<Range<usize>> {
        loop {
            let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                if self.buffer.len() - self.start > self.line_bytes_max {
                    self.skip_rest();
                }
                return None;
            };
            let line = self.start..self.searched + at;
            self.start = line.end + 1;
            self.searched = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.len() > self.line_bytes_max {
                self.too_long_count += 1;
                continue;
            }
            return Some(line);
        }
    }

    /// What is left after the last LF, at the end of the input; `None` when there is nothing.
    pub fn last_range(&mut self) -> Option<Range<usize>> {
        let rest = self.start..self.buffer.len();
        self.start = rest.end;
        self.searched = rest.end;
        (!rest.is_empty() && !std::mem::take(&mut self.skipping)).then_some(rest)
    }

    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    fn skip_rest(&mut self) {
        if !std::mem::replace(&mut self.skipping, true) {
            self.too_long_count += 1;
        }
        self.buffer.clear();
        self.start = 0;
        self.searched = 0;
    }
}

/// Key and value around the first `separator`; all value when there is none.
#[must_use]
pub fn split<'l>(line: &'l [u8], separator: &[u8]) -> (Option<&'l [u8]>, &'l [u8]) {
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// The lines of `input` cut into blocks of `block_bytes`.
    fn cut(input: &[u8], block_bytes: usize, line_bytes_max: usize) -> (Vec<Vec<u8>>, u64) {
        let mut lines = Lines::new(line_bytes_max);
        let mut found = Vec::new();
        for block in input.chunks(block_bytes) {
            lines.add(block.to_vec());
            while let Some(range) = lines.next_range() {
                found.push(lines.bytes(range).to_vec());
            }
        }
        found.extend(lines.last_range().map(|range| lines.bytes(range).to_vec()));
        (found, lines.too_long_count)
    }

    #[test]
    fn lines_are_the_same_however_the_input_is_cut() {
        let input = b"one\n\ntwo\r\n\xff\x00three\nlast";
        let expected: Vec<Vec<u8>> = [&b"one"[..], b"", b"two\r", b"\xff\x00three", b"last"]
            .iter()
            .map(|line| line.to_vec())
            .collect();
        for block_bytes in 1..=input.len() {
            assert_eq!(cut(input, block_bytes, 100), (expected.clone(), 0), "blocks of {block_bytes}");
        }
    }

    #[test]
    fn a_line_is_cut_at_its_first_separator() {
        assert_eq!(split(b"a:b:c", b":"), (Some(&b"a"[..]), &b"b:c"[..]));
        assert_eq!(split(b"a->b", b"->"), (Some(&b"a"[..]), &b"b"[..]));
        assert_eq!(split(b":b", b":"), (Some(&b""[..]), &b"b"[..]));
        assert_eq!(split(b"ab", b":"), (None, &b"ab"[..]));
        assert_eq!(split(b"", b"::"), (None, &b""[..]));
    }

    /// Gives as many blocks as it was allowed, then waits, as a terminal does.
    struct Gated {
        allowed: std::sync::mpsc::Receiver<u8>,
        read_count: Arc<AtomicUsize>,
    }

    impl Gated {
        fn new() -> (std::sync::mpsc::Sender<u8>, Arc<AtomicUsize>, Self) {
            let (allow, allowed) = std::sync::mpsc::channel();
            let read_count = Arc::<AtomicUsize>::default();
            (allow, Arc::clone(&read_count), Self { allowed, read_count })
        }
    }

    impl Read for Gated {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Ok(byte) = self.allowed.recv() else { return Ok(0) };
            buffer[0] = byte;
            self.read_count.fetch_add(1, Ordering::SeqCst);
            Ok(1)
        }
    }

    async fn rest(blocks: &mut Blocks) -> Vec<u8> {
        let mut found = Vec::new();
        while let Some(block) = blocks.next().await {
            found.extend(block.unwrap());
        }
        found
    }

    #[tokio::test]
    async fn blocks_read_before_a_stop_are_given_and_a_waiting_read_is_not_waited_for() {
        let (allow, _, input) = Gated::new();
        let mut blocks = Blocks::of(input).unwrap();
        allow.send(1).unwrap();
        assert_eq!(blocks.next().await.unwrap().unwrap(), [1]);
        // The thread waits in its read, now or soon.
        blocks.stop();
        assert!(rest(&mut blocks).await.is_empty());
        assert!(!blocks.is_at_end());
        drop(allow);
    }

    #[tokio::test]
    async fn block_that_found_no_room_before_a_stop_is_given_too() {
        let (allow, read_count, input) = Gated::new();
        let mut blocks = Blocks::of(input).unwrap();
        // As many as there is room for, and one in hand.
        let held_count = BLOCKS_MAX as u8 + 1;
        (0..20).for_each(|n| allow.send(n).unwrap());
        let held = usize::from(held_count);
        while read_count.load(Ordering::SeqCst) < held || !blocks.shared.in_hand.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        blocks.stop();
        assert_eq!(rest(&mut blocks).await, (0..held_count).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn end_of_the_input_is_told_from_a_stop() {
        let mut blocks = Blocks::of(&b"a\nb"[..]).unwrap();
        assert_eq!(rest(&mut blocks).await, b"a\nb");
        assert!(blocks.is_at_end());
    }

    #[test]
    fn a_final_lf_adds_no_line() {
        assert_eq!(cut(b"a\n", 10, 10).0, [b"a".to_vec()]);
        assert_eq!(cut(b"\n", 10, 10).0, [Vec::<u8>::new()]);
        assert!(cut(b"", 10, 10).0.is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_out_once() {
        let input = b"ok\nxxxxxxxxxxxx\nfine\nyyyyyyyyyyyyy";
        for block_bytes in 1..=input.len() {
            let (found, too_long_count) = cut(input, block_bytes, 4);
            assert_eq!(found[..2], [b"ok".to_vec(), b"fine".to_vec()], "blocks of {block_bytes}");
            assert!(found.len() == 2 && too_long_count == 2 || found.len() == 3 && too_long_count == 1);
        }
    }
}
