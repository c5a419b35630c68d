//! The shapes of every request: a row for each API, as its message definition says, up to the versions known here.
//!
//! `always`, `since(v)` and `between(v, w)` say in which versions a field is there. Whether a version is flexible
//! (compact lengths, tagged fields) is the API's, not the field's. Tagged fields are not listed: they are skipped.

use crate::walk::Kind::{Blob, Fixed, List, Maybe, Numbers, Text, Texts};
use crate::walk::{Shape, always, between, since};

const PARTITION_PRODUCE_DATA: Shape = &[always(Fixed(4)), always(Blob)];
const TOPIC_PRODUCE_DATA: Shape =
    &[between(3, 12, Text), since(13, Fixed(16)), always(List(PARTITION_PRODUCE_DATA))];
pub(crate) const PRODUCE: Shape =
    &[always(Text), always(Fixed(2)), always(Fixed(4)), always(List(TOPIC_PRODUCE_DATA))];

const FETCH_PARTITION: Shape = &[
    always(Fixed(4)),
    since(9, Fixed(4)),
    always(Fixed(8)),
    since(12, Fixed(4)),
    since(5, Fixed(8)),
    always(Fixed(4)),
];
const FETCH_TOPIC: Shape = &[between(4, 12, Text), since(13, Fixed(16)), always(List(FETCH_PARTITION))];
const FORGOTTEN_TOPIC: Shape = &[between(7, 12, Text), since(13, Fixed(16)), since(7, Numbers(4))];
pub(crate) const FETCH: Shape = &[
    between(4, 14, Fixed(4)),
    always(Fixed(4)),
    always(Fixed(4)),
    always(Fixed(4)),
    always(Fixed(1)),
    since(7, Fixed(4)),
    since(7, Fixed(4)),
    always(List(FETCH_TOPIC)),
    since(7, List(FORGOTTEN_TOPIC)),
    since(11, Text),
];

const LIST_OFFSETS_PARTITION: Shape = &[always(Fixed(4)), since(4, Fixed(4)), always(Fixed(8))];
const LIST_OFFSETS_TOPIC: Shape = &[always(Text), always(List(LIST_OFFSETS_PARTITION))];
pub(crate) const LIST_OFFSETS: Shape =
    &[always(Fixed(4)), since(2, Fixed(1)), always(List(LIST_OFFSETS_TOPIC)), since(10, Fixed(4))];

const METADATA_REQUEST_TOPIC: Shape = &[since(10, Fixed(16)), always(Text)];
pub(crate) const METADATA: Shape =
    &[always(List(METADATA_REQUEST_TOPIC)), since(4, Fixed(1)), between(8, 10, Fixed(1)), since(8, Fixed(1))];

const OFFSET_COMMIT_REQUEST_PARTITION: Shape =
    &[always(Fixed(4)), always(Fixed(8)), since(6, Fixed(4)), always(Text)];
const OFFSET_COMMIT_REQUEST_TOPIC: Shape = &[always(Text), always(List(OFFSET_COMMIT_REQUEST_PARTITION))];
pub(crate) const OFFSET_COMMIT: Shape = &[
    always(Text),
    always(Fixed(4)),
    always(Text),
    since(7, Text),
    between(2, 4, Fixed(8)),
    always(List(OFFSET_COMMIT_REQUEST_TOPIC)),
];

const OFFSET_FETCH_REQUEST_TOPIC: Shape = &[between(1, 7, Text), between(1, 7, Numbers(4))];
const OFFSET_FETCH_REQUEST_TOPICS: Shape = &[since(8, Text), since(8, Numbers(4))];
const OFFSET_FETCH_REQUEST_GROUP: Shape =
    &[since(8, Text), since(9, Text), since(9, Fixed(4)), since(8, List(OFFSET_FETCH_REQUEST_TOPICS))];
pub(crate) const OFFSET_FETCH: Shape = &[
    between(1, 7, Text),
    between(1, 7, List(OFFSET_FETCH_REQUEST_TOPIC)),
    since(8, List(OFFSET_FETCH_REQUEST_GROUP)),
    since(7, Fixed(1)),
];

pub(crate) const FIND_COORDINATOR: Shape = &[between(0, 3, Text), since(1, Fixed(1)), since(4, Texts)];

const JOIN_GROUP_REQUEST_PROTOCOL: Shape = &[always(Text), always(Blob)];
pub(crate) const JOIN_GROUP: Shape = &[
    always(Text),
    always(Fixed(4)),
    since(1, Fixed(4)),
    always(Text),
    since(5, Text),
    always(Text),
    always(List(JOIN_GROUP_REQUEST_PROTOCOL)),
    since(8, Text),
];

pub(crate) const HEARTBEAT: Shape = &[always(Text), always(Fixed(4)), always(Text), since(3, Text)];

const MEMBER_IDENTITY: Shape = &[since(3, Text), since(3, Text), since(5, Text)];
pub(crate) const LEAVE_GROUP: Shape = &[always(Text), between(0, 2, Text), since(3, List(MEMBER_IDENTITY))];

const SYNC_GROUP_REQUEST_ASSIGNMENT: Shape = &[always(Text), always(Blob)];
pub(crate) const SYNC_GROUP: Shape = &[
    always(Text),
    always(Fixed(4)),
    always(Text),
    since(3, Text),
    since(5, Text),
    since(5, Text),
    always(List(SYNC_GROUP_REQUEST_ASSIGNMENT)),
];

pub(crate) const DESCRIBE_GROUPS: Shape = &[always(Texts), since(3, Fixed(1))];

pub(crate) const LIST_GROUPS: Shape = &[since(4, Texts), since(5, Texts)];

pub(crate) const SASL_HANDSHAKE: Shape = &[always(Text)];

pub(crate) const API_VERSIONS: Shape = &[since(3, Text), since(3, Text)];

const CREATABLE_REPLICA_ASSIGNMENT: Shape = &[always(Fixed(4)), always(Numbers(4))];
const CREATABLE_TOPIC_CONFIG: Shape = &[always(Text), always(Text)];
const CREATABLE_TOPIC: Shape = &[
    always(Text),
    always(Fixed(4)),
    always(Fixed(2)),
    always(List(CREATABLE_REPLICA_ASSIGNMENT)),
    always(List(CREATABLE_TOPIC_CONFIG)),
];
pub(crate) const CREATE_TOPICS: Shape = &[always(List(CREATABLE_TOPIC)), always(Fixed(4)), always(Fixed(1))];

const DELETE_TOPIC_STATE: Shape = &[since(6, Text), since(6, Fixed(16))];
pub(crate) const DELETE_TOPICS: Shape =
    &[since(6, List(DELETE_TOPIC_STATE)), between(1, 5, Texts), always(Fixed(4))];

const DELETE_RECORDS_PARTITION: Shape = &[always(Fixed(4)), always(Fixed(8))];
const DELETE_RECORDS_TOPIC: Shape = &[always(Text), always(List(DELETE_RECORDS_PARTITION))];
pub(crate) const DELETE_RECORDS: Shape = &[always(List(DELETE_RECORDS_TOPIC)), always(Fixed(4))];

pub(crate) const INIT_PRODUCER_ID: Shape =
    &[always(Text), always(Fixed(4)), since(3, Fixed(8)), since(3, Fixed(2))];

const OFFSET_FOR_LEADER_PARTITION: Shape = &[always(Fixed(4)), always(Fixed(4)), always(Fixed(4))];
const OFFSET_FOR_LEADER_TOPIC: Shape = &[always(Text), always(List(OFFSET_FOR_LEADER_PARTITION))];
pub(crate) const OFFSET_FOR_LEADER_EPOCH: Shape =
    &[since(3, Fixed(4)), always(List(OFFSET_FOR_LEADER_TOPIC))];

const DESCRIBE_CONFIGS_RESOURCE: Shape = &[always(Fixed(1)), always(Text), always(Texts)];
pub(crate) const DESCRIBE_CONFIGS: Shape =
    &[always(List(DESCRIBE_CONFIGS_RESOURCE)), always(Fixed(1)), since(3, Fixed(1))];

const ALTERABLE_CONFIG: Shape = &[always(Text), always(Text)];
const ALTER_CONFIGS_RESOURCE: Shape = &[always(Fixed(1)), always(Text), always(List(ALTERABLE_CONFIG))];
pub(crate) const ALTER_CONFIGS: Shape = &[always(List(ALTER_CONFIGS_RESOURCE)), always(Fixed(1))];

const INCREMENTAL_CONFIG: Shape = &[always(Text), always(Fixed(1)), always(Text)];
const INCREMENTAL_RESOURCE: Shape = &[always(Fixed(1)), always(Text), always(List(INCREMENTAL_CONFIG))];
pub(crate) const INCREMENTAL_ALTER_CONFIGS: Shape = &[always(List(INCREMENTAL_RESOURCE)), always(Fixed(1))];

const CREATE_PARTITIONS_ASSIGNMENT: Shape = &[always(Numbers(4))];
const CREATE_PARTITIONS_TOPIC: Shape =
    &[always(Text), always(Fixed(4)), always(List(CREATE_PARTITIONS_ASSIGNMENT))];
pub(crate) const CREATE_PARTITIONS: Shape =
    &[always(List(CREATE_PARTITIONS_TOPIC)), always(Fixed(4)), always(Fixed(1))];

pub(crate) const SASL_AUTHENTICATE: Shape = &[always(Blob)];

pub(crate) const DELETE_GROUPS: Shape = &[always(Texts)];

const OFFSET_DELETE_REQUEST_PARTITION: Shape = &[always(Fixed(4))];
const OFFSET_DELETE_REQUEST_TOPIC: Shape = &[always(Text), always(List(OFFSET_DELETE_REQUEST_PARTITION))];
pub(crate) const OFFSET_DELETE: Shape = &[always(Text), always(List(OFFSET_DELETE_REQUEST_TOPIC))];

const TOPIC_PARTITIONS: Shape = &[always(Text), always(Numbers(4))];
pub(crate) const ELECT_LEADERS: Shape =
    &[since(1, Fixed(1)), always(List(TOPIC_PARTITIONS)), always(Fixed(4))];

const REASSIGNABLE_PARTITION: Shape = &[always(Fixed(4)), always(Numbers(4))];
const REASSIGNABLE_TOPIC: Shape = &[always(Text), always(List(REASSIGNABLE_PARTITION))];
pub(crate) const ALTER_PARTITION_REASSIGNMENTS: Shape =
    &[always(Fixed(4)), since(1, Fixed(1)), always(List(REASSIGNABLE_TOPIC))];

const LIST_PARTITION_REASSIGNMENTS_TOPICS: Shape = &[always(Text), always(Numbers(4))];
pub(crate) const LIST_PARTITION_REASSIGNMENTS: Shape =
    &[always(Fixed(4)), always(List(LIST_PARTITION_REASSIGNMENTS_TOPICS))];

pub(crate) const DESCRIBE_CLUSTER: Shape = &[always(Fixed(1)), since(1, Fixed(1)), since(2, Fixed(1))];

const DESCRIBABLE_LOG_DIR_TOPIC: Shape = &[always(Text), always(Numbers(4))];
pub(crate) const DESCRIBE_LOG_DIRS: Shape = &[always(List(DESCRIBABLE_LOG_DIR_TOPIC))];

const TOPIC_REQUEST: Shape = &[always(Text)];
const CURSOR: Shape = &[always(Text), always(Fixed(4))];
pub(crate) const DESCRIBE_TOPIC_PARTITIONS: Shape =
    &[always(List(TOPIC_REQUEST)), always(Fixed(4)), always(Maybe(CURSOR))];

pub(crate) const LIST_CONFIG_RESOURCES: Shape = &[since(1, Numbers(1))];
