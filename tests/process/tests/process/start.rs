//! Starting.

use std::time::Duration;

use tests_process::{Broker, Options, directory, scrape};

/// Far above the target of 200 ms, since this runs beside other tests; `bench/restart` prints `start_ms`.
const READY_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_fresh_directory_is_ready_at_once_and_says_what_runs() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    assert!(broker.ready_after < READY_MAX, "{:?}", broker.ready_after);
    // It is said before readiness is told, but this side may still be reading it.
    broker.wait_for_stderr("event=ready", READY_MAX);
    let said = broker.stderr();
    let expected = [
        broker.options.listen.to_string(),
        broker.options.http.to_string(),
        broker.options.data.display().to_string(),
        "cores".to_string(),
        "durab".to_string(),
    ];
    for word in expected {
        assert!(said.contains(&word), "'{word}' is missing in: {said}");
    }
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(scrape::get(broker.options.http, path).unwrap().0, 200, "{path}");
    }
    assert_eq!(scrape::get(broker.options.http, "/nothing").unwrap().0, 404);
    let metrics = broker.metrics();
    assert!(metrics.lines().filter(|line| line.starts_with("millstream_")).count() > 20, "{metrics}");
}

#[test]
fn topics_outlive_a_kill() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    for topic in ["one", "two", "three"] {
        cli.create(topic, 3);
    }
    cli.run(&["topic", "delete", "two"]).expect(0);
    let before = cli.run(&["--format", "json", "topic", "describe", "three"]).expect(0).text();
    broker.kill9();
    broker.restart();
    let listed = cli.run(&["topic", "list"]).expect(0).text();
    assert!(listed.contains("one") && listed.contains("three") && !listed.contains("two"), "{listed}");
    let after = cli.run(&["--format", "json", "topic", "describe", "three"]).expect(0).text();
    let id = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON")["id"].clone();
    assert_eq!(id(&before), id(&after), "a topic keeps its id");
}
