//! The HTTP port: small pages for probes and scrapers, HTTP/1.1.
//!
//! At most [`CONNECTIONS_MAX`] connections are served at a time, further ones wait in the listen queue; a
//! request's head must arrive within [`HEAD_TIMEOUT`], and bodies are not read.
//!
//! Lives on: the control thread. Does not know: what a page says.

use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(crate) const CONNECTIONS_MAX: usize = 64;
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that serves nothing for so long, or forever many requests, is not ours to keep.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a path answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{body}\n") }
    }

    pub(crate) fn json(status: u16, body: String) -> Self {
        Self { status, content_type: "application/json", body }
    }
}

/// Serves `listener` with `answer`, which is given the path and says `None` where there is nothing. Runs on a
/// tokio `LocalSet` until dropped.
pub(crate) async fn serve<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(String) -> A + 'static,
    A: Future<Output = Option<Answer>> + 'static,
{
    let answer = Rc::new(answer);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of descriptors, or a peer that left at once: wait rather than spin.
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let answer = Rc::clone(&answer);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| respond(Rc::clone(&answer), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // How a probe's connection ends is the probe's affair.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}

async fn respond<F, A>(answer: Rc<F>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible>
where
    F: Fn(String) -> A,
    A: Future<Output = Option<Answer>>,
{
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = page(Answer::text(405, "only GET and HEAD"));
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let found = answer(request.uri().path().to_owned()).await;
    Ok(page(found.unwrap_or_else(|| {
        Answer::text(404, "nothing here: try /metrics, /metrics/kafka, /healthz, /livez or /readyz")
    })))
}

fn page(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    fn exchange(request: &'static str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::task::spawn_local(serve(listener, |path| async move {
                (path == "/healthz").then(|| Answer::text(200, "ok"))
            }));
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        })
    }

    #[test]
    fn known_paths_answer_and_others_say_what_there_is() {
        let found = exchange("GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(found.starts_with("HTTP/1.1 200 OK\r\n") && found.ends_with("\r\n\r\nok\n"), "{found}");
        let missing = exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("/metrics"), "{missing}");
    }

    #[test]
    fn other_methods_and_garbage_are_refused() {
        let post =
            exchange("POST /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
        assert!(exchange("\x01\x02\r\n\r\n").starts_with("HTTP/1.1 400"));
    }
}
