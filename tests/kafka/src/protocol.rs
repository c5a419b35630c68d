//! Requests and answers, as JSON.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All operations' fields; each reads its own.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) op: String,
    #[serde(default)]
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) topics: Vec<String>,
    pub(crate) partition: Option<i32>,
    #[serde(default)]
    pub(crate) partitions: i32,
    #[serde(default)]
    pub(crate) total: usize,
    #[serde(default)]
    pub(crate) configs: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
    #[serde(default)]
    pub(crate) before: i64,
    #[serde(default)]
    pub(crate) at: Value,
    #[serde(default)]
    pub(crate) start: Value,
    #[serde(default)]
    pub(crate) count: usize,
    #[serde(default)]
    pub(crate) records: Vec<Record>,
    #[serde(default = "none")]
    pub(crate) codec: String,
    #[serde(default)]
    pub(crate) acks: Value,
    #[serde(default)]
    pub(crate) idempotent: bool,
    #[serde(default)]
    pub(crate) member: String,
    #[serde(default)]
    pub(crate) group: String,
    #[serde(default)]
    pub(crate) auto: bool,
    pub(crate) instance: Option<String>,
    pub(crate) session_ms: Option<u64>,
    pub(crate) strategy: Option<String>,
    #[serde(default)]
    pub(crate) ms: u64,
    #[serde(default)]
    pub(crate) offset: i64,
}

fn none() -> String {
    "none".to_owned()
}

/// Bytes in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(default)]
    pub(crate) partition: i32,
    #[serde(default)]
    pub(crate) offset: i64,
    pub(crate) key: Option<Blob>,
    pub(crate) value: Option<Blob>,
    pub(crate) headers: Vec<(String, Option<Blob>)>,
    pub(crate) timestamp: Option<i64>,
}

#[derive(Debug)]
pub(crate) enum Failure {
    Unsupported(&'static str),
    Error(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.to_string())
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Ok(Value),
    Unsupported(&'static str),
    Error(String),
}

impl From<Result<Value, Failure>> for Answer {
    fn from(result: Result<Value, Failure>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err(Failure::Unsupported(why)) => Self::Unsupported(why),
            Err(Failure::Error(what)) => Self::Error(what),
        }
    }
}
