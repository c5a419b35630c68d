//! Who serves what: clients dial the owner, and those who land elsewhere are served as well.

use tests_process::scrape::metric;
use tests_process::{Broker, Options, directory, lines};

use crate::verify;

#[test]
fn traffic_of_the_sdk_arrives_on_owner_cores() {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()).cores(2));
    let cli = broker.cli();
    cli.create("owners", 8);
    let sent = lines::real(50_000);
    cli.run_with(&["produce", "owners"], lines::joined(&sent)).expect(0);
    verify::same_lines(&sent, &cli.values("owners"));
    let metrics = broker.metrics();
    let of = |core: u32| {
        metric(&metrics, "millstream_requests_owned_total", &format!("core=\"{core}\"")).unwrap_or(0.0)
    };
    let forwarded = metric(&metrics, "millstream_requests_forwarded_total", "").expect("counted");
    assert!(of(0) > 20.0 && of(1) > 20.0, "both cores serve their own: {} and {}", of(0), of(1));
    assert!(forwarded < 0.1 * (of(0) + of(1)), "{forwarded} forwarded, {} owned", of(0) + of(1));
}
