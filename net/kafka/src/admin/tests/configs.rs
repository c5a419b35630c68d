//! Configs of topics and of the node.

use engine_api::{AlterTopic, CheckTopic, Request, Response, TOPIC_CONFIGS, TopicError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig as IncrementalConfig,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::{call, not_asked, text, unwilling, willing, world};
use crate::tests::world::{World, config};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn about(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

fn find<'a>(result: &'a DescribeConfigsResult, key: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|config| *config.name == *key).unwrap_or_else(|| panic!("{key} is told"))
}

#[test]
fn all_of_a_topics_configs_are_told_unless_some_are_named() {
    for version in 1..=4 {
        for (keys, expect) in [
            (None, TOPIC_CONFIGS.len()),
            // As Kafka does since 2.8.
            (Some(&[][..]), TOPIC_CONFIGS.len()),
            (Some(&["retention.ms", "segment.ms"][..]), 2),
            (Some(&["no.such.config"][..]), 0),
        ] {
            let (response, _) = call(&mut world(), version, &about(TOPIC, "orders", keys), willing);
            let result = &response.results[0];
            assert_eq!((result.error_code, result.configs.len()), (0, expect), "{keys:?}");
            assert_eq!((result.resource_type, &*result.resource_name), (TOPIC, "orders"));
            assert_eq!(result.error_message, None);
        }
    }
}

#[test]
fn a_value_is_told_with_where_it_was_said_its_type_and_its_meaning() {
    let mut world = World::with(crate::config::ServerConfig {
        topic_defaults: vec![("segment.ms".into(), "7".into()), ("retention.ms".into(), "9".into())],
        ..config()
    });
    let request = about(TOPIC, "orders", None).with_include_synonyms(true).with_include_documentation(true);
    let (response, _) = call(&mut world, 4, &request, willing);
    let result = &response.results[0];
    let synonyms = |key: &str| -> Vec<(String, Option<StrBytes>, i8)> {
        let synonyms = find(result, key).synonyms.iter();
        synonyms.map(|synonym| (synonym.name.to_string(), synonym.value.clone(), synonym.source)).collect()
    };
    let retention = find(result, "retention.ms");
    assert_eq!((&retention.value, retention.config_source), (&Some(text("5")), 1));
    assert_eq!((retention.config_type, retention.read_only, retention.is_sensitive), (5, false, false));
    assert!(retention.documentation.as_ref().unwrap().contains("Milliseconds"));
    assert_eq!(
        synonyms("retention.ms"),
        [
            ("retention.ms".to_owned(), Some(text("5")), 1),
            ("log.retention.ms".to_owned(), Some(text("9")), 4),
            ("log.retention.ms".to_owned(), Some(text("604800000")), 5),
        ]
    );
    assert_eq!(find(result, "segment.ms").config_source, 4);
    assert_eq!(find(result, "cleanup.policy").config_source, 5);
    assert_eq!(find(result, "cleanup.policy").config_type, 7);
    assert_eq!(synonyms("write.caching"), [("write.caching".to_owned(), Some(text("false")), 5)]);
    // Neither unless it is asked for.
    let (response, _) = call(&mut world, 4, &about(TOPIC, "orders", None), willing);
    let retention = find(&response.results[0], "retention.ms");
    assert!(retention.synonyms.is_empty() && retention.documentation.is_none());
}

#[test]
fn resources_that_are_not_there_are_refused_one_by_one() {
    let resources = [(TOPIC, "gone"), (BROKER, "8"), (BROKER, "x"), (32, "g"), (BROKER, "")];
    let resources = resources.map(|(kind, name)| about(kind, name, None).resources.remove(0));
    let request = DescribeConfigsRequest::default().with_resources(resources.to_vec());
    for version in 1..=4 {
        let (response, _) = call(&mut world(), version, &request, |_| {
            Response::DescribeTopics(Err(TopicError::Unknown { name: "gone".into() }))
        });
        let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
        let invalid = ResponseError::InvalidRequest.code();
        let unknown = ResponseError::UnknownTopicOrPartition.code();
        assert_eq!(codes, [unknown, invalid, invalid, invalid, 0]);
        assert!(response.results[0].error_message.as_ref().unwrap().contains("gone"));
        assert!(response.results[4].configs.is_empty());
    }
}

#[test]
fn the_nodes_own_configs_are_told_as_they_are_in_force() {
    let mut world = World::with(crate::config::ServerConfig {
        topic_defaults: vec![("segment.ms".into(), "7".into())],
        node_configs: vec![("log.dirs".into(), "/data".into()), ("max.connections".into(), "9999".into())],
        ..config()
    });
    for version in 1..=4 {
        let request = about(BROKER, "7", None).with_include_synonyms(true);
        let (response, _) = call(&mut world, version, &request, not_asked);
        let result = &response.results[0];
        assert_eq!(result.error_code, 0);
        assert!(result.configs.is_sorted_by(|a, b| a.name < b.name), "each once, by name");
        assert!(result.configs.iter().all(|config| config.read_only && config.synonyms.len() == 1));
        let told = |key: &str| {
            let config = find(result, key);
            (config.value.as_ref().unwrap().to_string(), config.config_source)
        };
        assert_eq!(told("num.partitions"), ("2".to_owned(), 4));
        assert_eq!(told("default.replication.factor"), ("1".to_owned(), 5));
        assert_eq!(told("node.id"), ("7".to_owned(), 4));
        assert_eq!(told("log.dirs"), ("/data".to_owned(), 4));
        assert_eq!(told("max.connections"), ("9999".to_owned(), 4), "the node's, not a core's share");
        assert_eq!(told("log.roll.ms"), ("7".to_owned(), 4));
        assert_eq!(told("advertised.listeners"), ("PLAINTEXT://127.0.0.1:9092".to_owned(), 4));
        assert_eq!(told("auto.create.topics.enable"), ("true".to_owned(), 5));
    }
}

#[test]
fn a_resource_that_is_named_again_is_told_of_once_with_all_that_was_wanted() {
    let many = |resources: Vec<DescribeConfigsRequest>| {
        let resources = resources.into_iter().flat_map(|request| request.resources).collect();
        DescribeConfigsRequest::default().with_resources(resources)
    };
    let request = many(vec![
        about(TOPIC, "orders", Some(&["retention.ms"])),
        about(BROKER, "7", None),
        about(TOPIC, "orders", Some(&["segment.ms"])),
        about(BROKER, "7", Some(&["node.id"])),
        about(BROKER, "+7", None),
    ]);
    let (response, asks) = call(&mut world(), 4, &request, willing);
    assert_eq!((asks.len(), response.results.len()), (1, 3));
    assert_eq!(response.results[0].configs.len(), 2);
    assert!(response.results[1].configs.len() > 2);
    assert_eq!(response.results[2].error_code, ResponseError::InvalidRequest.code());
    let mut world = world();
    let conn = world.connect();
    let names = (0..10_001).map(|index| about(TOPIC, &format!("t{index}"), None));
    world.send(conn, 4, &many(names.collect()));
    world.assert_closed(conn, "request_too_wide");
}

fn replace(kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsRequest {
    let configs = configs
        .iter()
        .map(|(key, value)| AlterableConfig::default().with_name(text(key)).with_value(value.map(text)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    AlterConfigsRequest::default().with_resources(vec![resource])
}

fn steps(kind: i8, name: &str, configs: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    let configs = configs.iter().map(|(key, operation, value)| {
        IncrementalConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = IncrementalResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

fn alter_of(asks: &[Request]) -> &AlterTopic {
    match asks {
        [Request::DescribeTopics(_), Request::AlterTopic(alter)] => alter,
        [Request::DescribeTopics(_), Request::CheckTopic(CheckTopic::Alter(alter))] => alter,
        other => panic!("asks {other:?}"),
    }
}

fn change(key: &str, value: Option<&str>) -> (String, Option<String>) {
    (key.to_owned(), value.map(str::to_owned))
}

/// The engine's `orders` has retention.ms=5 and two throttled replicas.
#[test]
fn what_is_not_named_goes_back_to_its_default() {
    for version in 0..=2 {
        for validate_only in [false, true] {
            let request =
                replace(TOPIC, "orders", &[("segment.ms", Some("9"))]).with_validate_only(validate_only);
            let (response, asks) = call(&mut world(), version, &request, willing);
            assert_eq!(response.responses[0].error_code, 0);
            assert_eq!(
                alter_of(&asks).configs,
                [
                    change("segment.ms", Some("9")),
                    change("follower.replication.throttled.replicas", None),
                    change("retention.ms", None),
                ]
            );
            assert_eq!(matches!(asks[1], Request::CheckTopic(_)), validate_only);
        }
    }
}

#[test]
fn steps_set_unset_add_to_lists_and_take_from_them() {
    let key = "follower.replication.throttled.replicas";
    let request = steps(
        TOPIC,
        "orders",
        &[
            ("segment.ms", 0, Some("9")),
            ("retention.ms", 1, None),
            (key, 2, Some("2:1,0:1")),
            ("cleanup.policy", 3, Some("delete")),
        ],
    );
    for version in 0..=1 {
        let (response, asks) = call(&mut world(), version, &request, willing);
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(response.responses[0].error_message, None);
        assert_eq!(
            alter_of(&asks).configs,
            [
                change("segment.ms", Some("9")),
                change("retention.ms", None),
                change(key, Some("1:1,2:1,0:1")),
                change("cleanup.policy", Some("")),
            ]
        );
    }
    // Nothing to do is done.
    let (response, asks) = call(&mut world(), 1, &steps(TOPIC, "orders", &[]), willing);
    assert_eq!((response.responses[0].error_code, asks.len()), (0, 1));
}

#[test]
fn steps_that_make_no_sense_are_refused() {
    let invalid = ResponseError::InvalidRequest;
    for (configs, error) in [
        (&[("retention.ms", 0, None)][..], invalid),
        (&[("retention.ms", 4, Some("1"))][..], invalid),
        (&[("retention.ms", 0, Some("1")), ("retention.ms", 1, None)][..], invalid),
        (&[("retention.ms", 2, Some("1"))][..], ResponseError::InvalidConfig),
        (&[("no.such.list", 3, Some("1"))][..], ResponseError::InvalidConfig),
    ] {
        let (response, asks) = call(&mut world(), 1, &steps(TOPIC, "orders", configs), willing);
        assert_eq!(response.responses[0].error_code, error.code(), "{configs:?}");
        assert_eq!(asks.len(), 1, "nothing is altered");
    }
    let (response, _) = call(&mut world(), 2, &replace(TOPIC, "orders", &[("retention.ms", None)]), willing);
    assert_eq!(response.responses[0].error_code, invalid.code());
}

#[test]
fn configs_of_brokers_are_read_only_and_a_resource_stands_once_in_a_request() {
    let broker = steps(BROKER, "7", &[("log.retention.ms", 0, Some("5"))]);
    let (response, _) = call(&mut world(), 1, &broker, not_asked);
    assert_eq!(response.responses[0].error_code, ResponseError::InvalidRequest.code());
    assert!(response.responses[0].error_message.as_ref().unwrap().contains("read-only"));
    let (response, _) = call(&mut world(), 1, &replace(BROKER, "7", &[]), not_asked);
    assert!(response.responses[0].error_message.as_ref().unwrap().contains("read-only"));
    let mut twice = replace(TOPIC, "orders", &[]);
    twice.resources.push(twice.resources[0].clone());
    let (response, _) = call(&mut world(), 1, &twice, not_asked);
    let codes: Vec<i16> = response.responses.iter().map(|response| response.error_code).collect();
    assert_eq!(codes, [ResponseError::InvalidRequest.code(); 2]);
}

#[test]
fn the_engines_refusals_are_told_in_every_version() {
    let refuse = |ask: &Request| match ask {
        Request::AlterTopic(_) => Response::AlterTopic(Err(TopicError::Config { why: "too small".into() })),
        other => willing(other),
    };
    for version in 0..=2 {
        let request = replace(TOPIC, "orders", &[("segment.ms", Some("0"))]);
        let (response, _) = call(&mut world(), version, &request, refuse);
        assert_eq!(response.responses[0].error_code, ResponseError::InvalidConfig.code());
        assert_eq!(response.responses[0].error_message, Some(text("too small")));
        call(&mut world(), version, &request, unwilling);
    }
    for version in 0..=1 {
        let request = steps(TOPIC, "orders", &[("segment.ms", 0, Some("0"))]);
        let (response, _) = call(&mut world(), version, &request, refuse);
        assert_eq!(response.responses[0].error_message, Some(text("too small")));
    }
}

#[test]
fn what_has_configs_is_listed() {
    let (response, _) = call(&mut world(), 0, &ListConfigResourcesRequest::default(), not_asked);
    assert_eq!((response.error_code, response.config_resources.len()), (0, 0));
    let (response, _) = call(&mut world(), 1, &ListConfigResourcesRequest::default(), willing);
    let listed: Vec<(i8, &str)> =
        response.config_resources.iter().map(|r| (r.resource_type, &*r.resource_name)).collect();
    assert_eq!(listed, [(TOPIC, "orders"), (TOPIC, "users"), (BROKER, "7")]);
    let brokers = ListConfigResourcesRequest::default().with_resource_types(vec![BROKER]);
    let (response, _) = call(&mut world(), 1, &brokers, not_asked);
    assert_eq!(response.config_resources.len(), 1);
    let other = ListConfigResourcesRequest::default().with_resource_types(vec![3]);
    let (response, _) = call(&mut world(), 1, &other, not_asked);
    assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
}

/// Appending to a list that another client has just changed would take back what that one did.
#[test]
fn a_change_that_meets_another_one_is_made_anew_from_what_there_is_then() {
    for validate_only in [false, true] {
        let request = steps(TOPIC, "orders", &[("cleanup.policy", 2, Some("compact"))])
            .with_validate_only(validate_only);
        let mut refusals_left = 2;
        let (response, asks) = call(&mut world(), 1, &request, |ask| match ask {
            Request::AlterTopic(_) | Request::CheckTopic(_) if refusals_left > 0 => {
                refusals_left -= 1;
                let error = TopicError::Changed { name: "orders".into() };
                if validate_only {
                    Response::CheckTopic(Err(error))
                } else {
                    Response::AlterTopic(Err(error))
                }
            }
            ask => willing(ask),
        });
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(asks.len(), 6);
        let alter = alter_of(&asks[4..]);
        let set = alter.based_on.as_ref().expect("it follows from what is set");
        assert!(set.contains(&("retention.ms".to_owned(), "5".to_owned())), "{set:?}");
    }
    let request = steps(TOPIC, "orders", &[("segment.ms", 0, Some("9"))]);
    let (response, _) = call(&mut world(), 1, &request, |ask| match ask {
        Request::AlterTopic(_) => Response::AlterTopic(Err(TopicError::Changed { name: "orders".into() })),
        ask => willing(ask),
    });
    assert_eq!(response.responses[0].error_code, ResponseError::LeaderNotAvailable.code());
}
