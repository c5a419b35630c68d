//! The broker's HTTP port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(5);

/// Status and body.
pub fn get(http: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&http, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not HTTP: {answer}")))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_string()))
}

/// The sum of all samples of one metric whose labels contain `label`. Nothing when there is no such sample.
pub fn metric(body: &str, name: &str, label: &str) -> Option<f64> {
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let samples = body.lines().filter(of_name).filter(|line| line.contains(label));
    let values: Vec<f64> = samples.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn samples_of_one_name_are_summed() {
        let body = "# TYPE a counter\na_total{core=\"0\"} 2\na_total{core=\"1\"} 3\na_total_more 9\nb 1\n";
        assert_eq!(metric(body, "a_total", ""), Some(5.0));
        assert_eq!(metric(body, "a_total", "core=\"1\""), Some(3.0));
        assert_eq!(metric(body, "b", ""), Some(1.0));
        assert_eq!(metric(body, "c", ""), None);
    }
}
