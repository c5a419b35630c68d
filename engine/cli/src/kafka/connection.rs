//! One TCP connection to a broker: a request, its answer, one at a time.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
    api_versions_response::ApiVersion,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use super::fault::Fault;

/// No answer to these tools is larger; what claims to be is not Kafka's protocol.
const RESPONSE_BYTES_MAX: i32 = 256 << 20;
/// Its header is the same in all versions, and so is what is asked of it here.
const API_VERSIONS_VERSION: i16 = 0;

#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    stream: TcpStream,
    correlation: i32,
    /// What the broker serves.
    versions: Vec<ApiVersion>,
}

impl Connection {
    /// Dials `address` (host:port) and learns what the broker serves.
    pub(crate) fn open(address: &str, timeout: Duration) -> Result<Self, Fault> {
        let failed = |why: String| Fault::Connection(format!("{address}: {why}"));
        let mut last = "its name is not known".to_owned();
        let found = address.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        let dialled = found.into_iter().find_map(|to| match TcpStream::connect_timeout(&to, timeout) {
            Ok(stream) => Some(stream),
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        let stream = dialled.ok_or_else(|| failed(last))?;
        let set = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(timeout)))
            .and_then(|()| stream.set_write_timeout(Some(timeout)));
        set.map_err(|error| failed(error.to_string()))?;
        let mut connection =
            Self { address: address.to_owned(), stream, correlation: 0, versions: Vec::new() };
        let answer: ApiVersionsResponse =
            connection.ask_version(API_VERSIONS_VERSION, &ApiVersionsRequest::default())?;
        Fault::check(answer.error_code, None)?;
        connection.versions = answer.api_keys;
        Ok(connection)
    }

    pub(crate) fn versions(&self) -> &[ApiVersion] {
        &self.versions
    }

    /// Asks in `version_max` or the newest one below it that the broker serves.
    pub(crate) fn ask<R: Request>(&mut self, version_max: i16, request: &R) -> Result<R::Response, Fault> {
        let served = self.versions.iter().find(|served| served.api_key == R::KEY);
        let name = || ApiKey::try_from(R::KEY).map_or_else(|()| R::KEY.to_string(), |key| format!("{key:?}"));
        let Some(served) = served else {
            return Err(Fault::refused(35, Some(&format!("The broker does not support {}", name()))));
        };
        let version = version_max.min(served.max_version);
        if version < served.min_version.max(R::VERSIONS.min) {
            let (min, max) = (served.min_version, served.max_version);
            let why =
                format!("The broker serves {} {min} to {max}, this tool knows up to {version_max}", name());
            return Err(Fault::refused(35, Some(&why)));
        }
        self.ask_version(version, request)
    }

    fn ask_version<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Fault> {
        self.correlation += 1;
        let mut out = BytesMut::new();
        out.extend_from_slice(&[0; 4]);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("millstream-admin")));
        header
            .encode(&mut out, R::header_version(version))
            .and_then(|()| request.encode(&mut out, version))
            .map_err(|error| Fault::Usage(error.to_string()))?;
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_be_bytes());
        let mut answer =
            self.exchange(&out).map_err(|why| Fault::Connection(format!("{}: {why}", self.address)))?;
        let unreadable = |why: &dyn std::fmt::Display| {
            Fault::Connection(format!("{}: not Kafka's protocol ({why})", self.address))
        };
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(|error| unreadable(&error))?;
        if header.correlation_id != self.correlation {
            return Err(unreadable(&"an answer to something else"));
        }
        R::Response::decode(&mut answer, version).map_err(|error| unreadable(&error))
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Bytes, String> {
        let timed_out = |error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::WouldBlock {
                return "no answer in time".to_owned();
            }
            error.to_string()
        };
        self.stream.write_all(request).map_err(timed_out)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(timed_out)?;
        let length = i32::from_be_bytes(length);
        if !(4..=RESPONSE_BYTES_MAX).contains(&length) {
            return Err("not Kafka's protocol".to_owned());
        }
        // Grows with what arrives, not with what is claimed.
        let mut answer = Vec::new();
        let got =
            Read::by_ref(&mut self.stream).take(length as u64).read_to_end(&mut answer).map_err(timed_out)?;
        if got < length as usize {
            return Err("the broker closed the connection".to_owned());
        }
        Ok(Bytes::from(answer))
    }
}
