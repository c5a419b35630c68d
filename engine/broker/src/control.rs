//! The control thread: the HTTP port, the watch over the cores, and the sampling of how busy they are.
//!
//! One plain thread with its own tokio, beside the cores; whatever it does, no record waits for it. A core is
//! asked for its numbers by message and has [`ANSWER_TIMEOUT`] to answer; one that does not is told as stalled.

use std::cell::RefCell;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use engine_core::{Node, NodeStats};

use crate::http::{self, Answer};
use crate::metrics::{self, NodeFacts};
use crate::run::{VERSION, Wake};
use crate::{exposition, kafka_metrics, preflight, process, utc};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// What the thread looks after.
pub(crate) struct Control {
    pub(crate) node: Arc<Node>,
    /// Told to stop: whoever balances load is to look elsewhere.
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) begun: Instant,
    pub(crate) data: PathBuf,
    pub(crate) free_bytes_min: u64,
    pub(crate) cert_expires_ms: Option<i64>,
    pub(crate) node_id: u32,
    /// As Kafka's clients are told.
    pub(crate) advertised: String,
}

/// Starts the thread, which lives as long as the process.
pub(crate) fn start(http: TcpListener, control: Control, wake: mpsc::Sender<Wake>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        tokio::net::TcpListener::from_std(http)?
    };
    let body = move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, look_after(listener, Rc::new(control), wake));
    };
    thread::Builder::new().name("control".to_owned()).spawn(body).map(|_| ())
}

async fn look_after(listener: tokio::net::TcpListener, control: Rc<Control>, wake: mpsc::Sender<Wake>) {
    let (ready_wake, ready) = (wake.clone(), control.node.ready());
    tokio::task::spawn_local(async move {
        // A core that fails first is told by `ended`.
        if ready.await.is_ok() {
            let _ = ready_wake.send(Wake::Ready);
        }
    });
    let ended = control.node.ended();
    tokio::task::spawn_local(async move {
        let _ = wake.send(Wake::Ended(ended.await));
    });
    let busy = Rc::new(RefCell::new(Busy::default()));
    let (sampled, sampler) = (Rc::clone(&busy), Rc::clone(&control));
    tokio::task::spawn_local(async move {
        loop {
            if let Some(stats) = sampler.stats().await {
                sampled.borrow_mut().sample(&stats);
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
    });
    http::serve(listener, move |path| answer(Rc::clone(&control), Rc::clone(&busy), path)).await;
}

async fn answer(control: Rc<Control>, busy: Rc<RefCell<Busy>>, path: String) -> Option<Answer> {
    match path.as_str() {
        "/healthz" => Some(Answer::text(200, "ok")),
        "/livez" => Some(match control.stats().await {
            Some(_) => Answer::text(200, "ok"),
            None => Answer::text(503, "a core does not answer"),
        }),
        "/readyz" | "/v1/status/ready" => {
            let reasons = control.reasons().await;
            let status = if reasons.is_empty() { 200 } else { 503 };
            Some(Answer::json(status, readiness(&reasons)))
        }
        "/metrics" => {
            let stats = control.stats().await.unwrap_or_default();
            let text = metrics::render(&control.facts(&busy.borrow()), &stats);
            Some(Answer { status: 200, content_type: exposition::CONTENT_TYPE, body: text })
        }
        "/metrics/kafka" => {
            // The groups first: what they have committed by then is not above the ends.
            let groups = tokio::time::timeout(ANSWER_TIMEOUT, control.node.group_offsets()).await;
            let ends = tokio::time::timeout(ANSWER_TIMEOUT, control.node.partition_ends()).await;
            let (groups, ends) = (groups.unwrap_or_default(), ends.unwrap_or_default());
            let text = kafka_metrics::render(control.node_id, &control.advertised, &ends, &groups);
            Some(Answer { status: 200, content_type: exposition::CONTENT_TYPE, body: text })
        }
        _ => None,
    }
}

impl Control {
    async fn stats(&self) -> Option<NodeStats> {
        tokio::time::timeout(ANSWER_TIMEOUT, self.node.stats()).await.ok()
    }

    /// Why requests should go elsewhere; empty: they should not.
    async fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            reasons.push("shutting down".to_owned());
        }
        if !self.node.is_ready() {
            reasons.push("logs are still being opened".to_owned());
        }
        match self.stats().await {
            Some(stats) => {
                let troubled: u64 = stats.cores.iter().map(|core| core.shard.partitions_troubled).sum();
                if stats.cores.iter().any(|core| !core.accepts) {
                    reasons.push("connections of Kafka's clients cannot be accepted: see the log".to_owned());
                }
                if troubled > 0 {
                    reasons.push(format!("{troubled} partitions are damaged or failed: see the log"));
                }
            }
            None => reasons.push("a core does not answer".to_owned()),
        }
        reasons
    }

    fn facts(&self, busy: &Busy) -> NodeFacts {
        NodeFacts {
            version: VERSION,
            ready: self.node.is_ready(),
            up: self.begun.elapsed(),
            free_bytes: preflight::free_bytes(&self.data).ok(),
            free_bytes_min: self.free_bytes_min,
            cert_expiry_seconds: self.cert_expires_ms.map(|ms| (ms - utc::now_ms()) / 1000),
            busy: busy.ratios.clone(),
            usage: process::usage(),
        }
    }
}

/// `{"ready":false,"reasons":["..."]}`; reasons are our own words without quotes.
fn readiness(reasons: &[String]) -> String {
    let listed: Vec<String> = reasons.iter().map(|reason| format!("\"{reason}\"")).collect();
    format!("{{\"ready\":{},\"reasons\":[{}]}}\n", reasons.is_empty(), listed.join(","))
}

/// How busy each core was between the last two samples.
#[derive(Debug, Default)]
struct Busy {
    /// Core, time up and time busy.
    last: Vec<(u8, Duration, Duration)>,
    ratios: Vec<(u8, f64)>,
}

impl Busy {
    fn sample(&mut self, stats: &NodeStats) {
        let now: Vec<_> =
            stats.cores.iter().map(|core| (core.core.0, core.executor.up, core.executor.busy)).collect();
        self.ratios = now
            .iter()
            .map(|(core, up, busy)| {
                let before = self.last.iter().find(|(last, ..)| last == core);
                let (up_before, busy_before) =
                    before.map_or_else(Default::default, |(_, up, busy)| (*up, *busy));
                let span = up.saturating_sub(up_before).as_secs_f64();
                let worked = busy.saturating_sub(busy_before).as_secs_f64();
                (*core, if span > 0.0 { (worked / span).min(1.0) } else { 0.0 })
            })
            .collect();
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_json_with_its_reasons() {
        assert_eq!(readiness(&[]), "{\"ready\":true,\"reasons\":[]}\n");
        let reasons = ["a core does not answer".to_owned()];
        assert_eq!(readiness(&reasons), "{\"ready\":false,\"reasons\":[\"a core does not answer\"]}\n");
    }
}
