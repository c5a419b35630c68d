use std::sync::Mutex;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// What `log` has written by now.
    fn text(&self, log: &Logger) -> String {
        log.flush();
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn logger(format: Format) -> (Logger, Sink) {
    let sink = Sink::default();
    (Logger::to(sink.clone(), Level::Info, format).unwrap(), sink)
}

#[test]
fn a_line_is_logfmt_with_quotes_where_needed() {
    let (log, sink) = logger(Format::Logfmt);
    let fields = [
        ("topic", "a b".to_owned()),
        ("why", "say \"no\"\n".to_owned()),
        ("n", "3".to_owned()),
        ("e", String::new()),
    ];
    log.log(1500, Level::Info, "topic_created", &fields);
    let expected = "ts=1970-01-01T00:00:01.500Z level=info event=topic_created topic=\"a b\" \
                    why=\"say \\\"no\\\"\\n\" n=3 e=\"\"\n";
    assert_eq!(sink.text(&log), expected);
}

#[test]
fn a_line_is_json_when_asked() {
    let (log, sink) = logger(Format::Json);
    log.log(0, Level::Error, "log_failed", &[("why", "disk \"x\"\u{1}".to_owned())]);
    let expected = "{\"ts\":\"1970-01-01T00:00:00.000Z\",\"level\":\"error\",\"event\":\"log_failed\",\
                    \"why\":\"disk \\\"x\\\"\\u0001\"}\n";
    assert_eq!(sink.text(&log), expected);
}

#[test]
fn lines_below_the_level_are_not_written() {
    let (log, sink) = logger(Format::Logfmt);
    log.log(0, Level::Debug, "noise", &[]);
    assert_eq!(sink.text(&log), "");
}

#[test]
fn identical_lines_are_held_back_and_counted() {
    let (log, sink) = logger(Format::Logfmt);
    for ms in 0..100 {
        log.log(ms, Level::Warn, "again", &[]);
    }
    assert_eq!(sink.text(&log).lines().count(), REPEATS_MAX as usize);
    log.log(1000, Level::Info, "other", &[]);
    let text = sink.text(&log);
    let told: Vec<_> = text.lines().skip(REPEATS_MAX as usize).collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("event=lines_held_back repeated=95"), "{}", told[0]);
    assert!(told[1].contains("event=other"));
}

/// Says when something is written, and takes nothing until it is told to.
struct Stuck {
    enter: SyncSender<()>,
    stuck: Receiver<()>,
}

impl std::io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.enter.try_send(());
        let _ = self.stuck.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let (release, stuck) = sync_channel(0);
    let (enter, entered) = sync_channel(1);
    let log = Logger::to(Stuck { enter, stuck }, Level::Info, Format::Logfmt).unwrap();
    log.info("first", &[]);
    // Only when the first line is being written nothing leaves the queue any more, and the count stands.
    entered.recv().unwrap();
    for number in 0..2 * QUEUE_MAX as u64 {
        log.info("flood", &[("n", number.to_string())]);
    }
    assert_eq!(log.dropped_count.load(Ordering::Relaxed), QUEUE_MAX as u64);
    drop(release);
    log.flush();
}
