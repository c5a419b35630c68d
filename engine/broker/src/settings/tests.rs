use std::time::Duration;

use super::*;

fn load(toml: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("millstream.toml");
    std::fs::write(&path, toml).unwrap();
    let values = flags.iter().map(|(key, value)| (*key, "--x", (*value).to_owned())).collect();
    let flags = Flags { config: Some(path), values, cluster_peers: None };
    Settings::load(&flags, env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[track_caller]
fn refuse(toml: &str, env: &[(&str, &str)], expected: &str) {
    let error = load(toml, env, &[]).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn nothing_said_is_the_contract() {
    let settings = Settings::load(&Flags::default(), []).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:9092");
    assert_eq!(settings.http.to_string(), "127.0.0.1:9644");
    assert_eq!(settings.data, PathBuf::from("./millstream-data"));
    assert_eq!((settings.node_id, settings.cores), (1, CoreChoice::All));
}

#[test]
fn flags_win_over_environment_over_file() {
    let toml = "node_id = 1\nmemory = \"64MiB\"\n[log]\nlevel = \"warn\"\n";
    let env = [("MILLSTREAM_LOG__LEVEL", "error"), ("MILLSTREAM_NODE_ID", "2")];
    let settings = load(toml, &env, &[("node_id", "3")]).unwrap();
    assert_eq!(settings.node_id, 3);
    assert_eq!(settings.log_level, Level::Error);
    assert_eq!(settings.memory_bytes, Some(64 << 20));
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    refuse("lisen = \"x\"", &[], "unknown setting 'lisen'");
    refuse("lisen = \"x\"", &[], "did you mean 'listen'?");
    refuse("[log]\nlevl = 3.5", &[], "did you mean 'log.level'?");
    refuse("[topic]\n\"retention.m\" = 1", &[], "did you mean 'topic.retention.ms'?");
    refuse(
        "",
        &[("MILLSTREAM_DATA_DIR", "/x")],
        "(environment variable MILLSTREAM_DATA_DIR): did you mean 'data'?",
    );
}

#[test]
fn cores_look_for_work_as_long_as_they_are_told() {
    assert_eq!(load("", &[], &[]).unwrap().spin, Duration::ZERO);
    assert_eq!(load("spin_us = 50", &[], &[]).unwrap().spin, Duration::from_micros(50));
    refuse("spin_us = 1001", &[], "0 to 1000");
}

#[test]
fn topic_defaults_nest_in_file_and_environment() {
    let env = [("MILLSTREAM_TOPIC__SEGMENT__BYTES", "67108864")];
    let settings = load("[topic]\nretention.ms = 1000\n", &env, &[]).unwrap();
    let expected = [("retention.ms", "1000"), ("segment.bytes", "67108864")];
    assert_eq!(settings.topic_defaults, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[test]
fn kafka_s_settings_have_its_names_and_units() {
    let settings = load("", &[], &[]).unwrap().kafka;
    assert!(settings.auto_create_topics);
    assert_eq!(settings.offsets_retention, Duration::from_secs(7 * 24 * 3600));
    let env = [("MILLSTREAM_KAFKA__NUM__PARTITIONS", "3")];
    let toml = "[kafka]\n\"auto.create.topics.enable\" = false\n\"group.min.session.timeout.ms\" = 100\n";
    let settings = load(toml, &env, &[]).unwrap().kafka;
    assert_eq!((settings.auto_create_topics, settings.partitions_default), (false, 3));
    assert_eq!(settings.session_timeout_min, Duration::from_millis(100));
    assert!(settings.told.contains(&("num.partitions".to_owned(), "3".to_owned())), "{:?}", settings.told);
    refuse("[kafka]\n\"num.partition\" = 1", &[], "did you mean 'kafka.num.partitions'?");
    refuse("[kafka]\n\"num.partitions\" = 0", &[], "out of bounds");
    refuse("[kafka]\n\"default.replication.factor\" = 3", &[], "out of bounds: 1 to 1");
    refuse("[kafka]\n\"auto.create.topics.enable\" = \"maybe\"", &[], "neither true nor false");
}

#[test]
fn values_out_of_bounds_or_of_the_wrong_kind_are_refused_with_their_origin() {
    refuse("memory = 5", &[], "setting 'memory'");
    refuse("memory = 5", &[], "out of bounds");
    refuse("node_id = -1", &[], "not a whole number");
    refuse("listen = \"nonsense\"", &[], "write it as 127.0.0.1:9092");
    refuse("advertise = \"nonsense\"", &[], "write it as broker.example:9092");
    refuse("log.level = \"loud\"", &[], "debug, info, warn or error");
    refuse("listen = 1.5", &[], "a float is not a value");
    refuse("cores = 0", &[], "neither a number of cores nor a list");
    refuse("cluster_id = \"12\"", &[], "32 hex digits");
    refuse("[tls]\ncert_file = \"a\"", &[], "needs 'tls.key_file' beside it");
    refuse("[topic]\n\"segment.bytes\" = \"x\"", &[], "segment.bytes");
    refuse("listen = [", &[], "not valid TOML");
}

#[test]
fn the_command_lines_own_variables_are_not_settings() {
    let env = [("MILLSTREAM_SERVER", "a:1"), ("MILLSTREAM_FINGERPRINT", "aa"), ("HOME", "/")];
    assert!(load("", &env, &[]).is_ok());
}

#[test]
fn a_cluster_of_several_nodes_is_refused_plainly() {
    let flags = Flags { cluster_peers: Some("2@b:9092".to_owned()), ..Flags::default() };
    assert_eq!(Settings::load(&flags, []), Err(SettingsError::ClusterPeers));
}

#[test]
fn the_advertised_address_is_one_that_clients_can_dial() {
    let bound = |text: &str| text.parse::<SocketAddr>().unwrap();
    let settings = load("", &[], &[]).unwrap();
    assert_eq!(settings.advertised(bound("127.0.0.1:7777"), "box"), "127.0.0.1:7777");
    assert_eq!(settings.advertised(bound("0.0.0.0:9092"), "box"), "box:9092");
    let settings = load("advertise = \"[2001:db8::1]:0\"", &[], &[]).unwrap();
    assert_eq!(settings.advertised(bound("[::]:9092"), "box"), "[2001:db8::1]:9092");
}

#[test]
fn cores_are_a_count_a_list_or_text() {
    assert_eq!(load("cores = 2", &[], &[]).unwrap().cores, CoreChoice::Count(2));
    assert_eq!(load("cores = [1]", &[], &[]).unwrap().cores, CoreChoice::List(vec![1]));
    assert_eq!(load("cores = \"0-1\"", &[], &[]).unwrap().cores, CoreChoice::List(vec![0, 1]));
}

#[test]
fn the_annotated_example_says_every_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/config/millstream.toml");
    let text = std::fs::read_to_string(path).unwrap();
    for (key, default) in KEYS {
        let name = match key.strip_prefix(kafka::PREFIX) {
            Some(name) => format!("\"{name}\""),
            None => key.rsplit('.').next().unwrap().to_owned(),
        };
        let line = text.lines().find(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")));
        let line = line.unwrap_or_else(|| panic!("{key} is missing"));
        assert!(line.contains(default), "{key}: {line} should say {default}");
    }
    for config in topic_config_keys() {
        assert!(text.contains(&format!("\"{config}\" = ")), "{config} is missing");
    }
    // With every commented setting made real it must still be one.
    let all: String = text.lines().map(|line| format!("{}\n", uncomment(line))).collect();
    let settings = load(&all, &[], &[]).unwrap();
    assert_eq!(settings.listen.port(), 9092);
}

fn uncomment(line: &str) -> &str {
    match line.strip_prefix("# ") {
        Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
        _ => line,
    }
}
