//! The client against a broker that is scripted, over real UDP on loopback.

mod connecting;
mod groups;
mod producing;
mod reading;
mod reading_kafka;
mod support;
