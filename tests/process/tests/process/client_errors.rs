//! What a person gets wrong, and what the command line answers.

use tests_process::{Broker, Cli, Options, directory, lines};

fn with_broker(test: impl FnOnce(&Broker, &Cli)) {
    let dir = directory();
    let broker = Broker::start(Options::new(dir.path()));
    test(&broker, &broker.cli());
}

#[test]
fn an_unknown_topic_is_not_found() {
    with_broker(|_, cli| {
        cli.run_with(&["produce", "nowhere"], b"x\n".to_vec()).expect(3).says(&["nowhere", "create"]);
        cli.run(&["consume", "nowhere", "--from-beginning", "--exit-at-end"]).expect(3).says(&["nowhere"]);
        cli.run(&["topic", "describe", "nowhere"]).expect(3).says(&["nowhere"]);
        cli.run(&["topic", "alter", "nowhere", "--partitions", "2"]).expect(3).says(&["nowhere"]);
        cli.run(&["topic", "delete", "nowhere"]).expect(3).says(&["nowhere"]);
    });
}

#[test]
fn a_bad_name_is_refused_with_the_rule() {
    with_broker(|_, cli| {
        let long = "x".repeat(250);
        for name in ["a b", "a/b", ".", "..", "ü", &long] {
            cli.run(&["topic", "create", name]).expect(1).says(&["name"]);
        }
        let longest = "y".repeat(249);
        for name in ["a.b_c-D9", &longest] {
            cli.run(&["topic", "create", name]).expect(0);
        }
    });
}

#[test]
fn a_topic_that_exists_is_not_made_again() {
    with_broker(|_, cli| {
        cli.create("twice", 1);
        cli.run(&["topic", "create", "twice"]).expect(1).says(&["twice", "exists"]);
    });
}

#[test]
fn partitions_outside_of_the_topic_are_named() {
    with_broker(|_, cli| {
        cli.create("four", 4);
        cli.run_with(&["produce", "four", "--partition", "4"], b"x\n".to_vec())
            .fails()
            .says(&["partition", "4"]);
        cli.run(&["consume", "four", "--partition", "9", "--exit-at-end"]).fails().says(&["partition", "9"]);
        for count in ["0", "10001"] {
            cli.run(&["topic", "create", "odd", "--partitions", count]).fails().says(&["partition"]);
        }
        cli.run(&["topic", "alter", "four", "--partitions", "3"]).expect(1).says(&["partition"]);
    });
}

#[test]
fn a_record_above_the_limit_is_refused_and_the_rest_goes_on() {
    with_broker(|_, cli| {
        cli.create("limit", 1);
        let large = vec![b'x'; (1 << 20) + 1];
        cli.run_with(&["produce", "limit"], lines::joined(&[large]))
            .expect(1)
            .says(&["max.message.bytes", "1048576"]);
        let fits = vec![b'y'; 1_000_000];
        cli.run_with(&["produce", "limit"], lines::joined(std::slice::from_ref(&fits))).expect(0);
        assert_eq!(cli.values("limit"), lines::joined(&[fits]));
        cli.run(&["topic", "alter", "limit", "--config", "max.message.bytes=2000"]).expect(0);
        let medium = vec![b'z'; 5_000];
        cli.run_with(&["produce", "limit"], lines::joined(&[medium]))
            .expect(1)
            .says(&["max.message.bytes", "2000"]);
    });
}

#[test]
fn an_offset_beyond_the_end_is_out_of_range() {
    with_broker(|_, cli| {
        cli.create("range", 1);
        cli.run_with(&["produce", "range"], b"a\nb\nc\n".to_vec()).expect(0);
        let consume = |offset: &str| {
            cli.run(&["consume", "range", "--partition", "0", "--offset", offset, "--exit-at-end"])
        };
        consume("4").expect(1).says(&["offset 4", "out of range", "0", "3"]);
        assert_eq!(consume("3").expect(0).text(), "");
        assert_eq!(consume("1").expect(0).text(), "b\nc\n");
    });
}

#[test]
fn an_unknown_config_is_refused_with_the_nearest_known_one() {
    with_broker(|_, cli| {
        let create = |config: &str| cli.run(&["topic", "create", "configs", "--config", config]);
        create("retention.mz=1").expect(1).says(&["retention.mz", "retention.ms"]);
        create("retention.ms=soon").expect(1).says(&["retention.ms", "soon"]);
        create("cleanup.policy=compress").expect(1).says(&["cleanup.policy", "compact"]);
        create("retention.ms").fails();
        create("retention.ms=3600000").expect(0);
        cli.run(&["topic", "alter", "configs", "--config", "segmnt.bytes=1"])
            .expect(1)
            .says(&["segment.bytes"]);
    });
}

#[test]
fn usage_errors_have_their_own_code() {
    with_broker(|_, cli| {
        cli.run(&["topic", "create"]).expect(2);
        cli.run(&["consume", "x", "--offset", "many"]).expect(2);
        cli.run(&["topic", "nonsense"]).expect(2);
    });
}

#[test]
fn a_closed_port_is_an_error_within_the_timeout() {
    let dir = directory();
    let mut broker = Broker::start(Options::new(dir.path()));
    let cli = broker.cli();
    broker.sigterm(std::time::Duration::from_secs(10)).expect(0);
    let done = cli.run(&["topic", "list"]).fails().says(&[&broker.options.listen.to_string()]);
    assert!(matches!(done.code, Some(1 | 4)), "{:?}", done.code);
    assert!(done.took < std::time::Duration::from_secs(40), "{:?}", done.took);
}

#[test]
fn a_broker_that_is_not_trusted_is_refused() {
    let dirs = [directory(), directory()];
    let broker = Broker::start(Options::new(dirs[0].path()));
    let other = Broker::start(Options::new(dirs[1].path()));
    let stranger = Cli::new(broker.options.listen, &other.options.data);
    stranger.run(&["topic", "list"]).fails().says(&["certificate"]);
}
