//! Clients written in Rust as driver processes: a JSON request a line in, a JSON answer a line out, as in
//! `drivers/driver.py`.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a client lives on real time")]

mod protocol;
mod rdkafka_driver;
mod sdk_driver;

use std::io::{BufRead, Write};

use protocol::{Answer, Failure, Request};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(client), Some(server)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: millstream-kafka-driver rdkafka|millstream HOST:PORT");
        std::process::exit(2);
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match client.as_str() {
        "rdkafka" => {
            let mut driver = rdkafka_driver::Driver::new(server);
            serve(|request| runtime.block_on(driver.answer(request)));
        }
        _ => {
            let driver = sdk_driver::Driver::new(server);
            serve(|request| runtime.block_on(driver.answer(request)));
        }
    }
}

fn serve(mut answer: impl FnMut(Request) -> Result<serde_json::Value, Failure>) {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("the asker is there");
        let answer = match serde_json::from_str(&line) {
            Ok(request) => Answer::from(answer(request)),
            Err(error) => Answer::Error(format!("not a request: {error}")),
        };
        let text = serde_json::to_string(&answer).expect("answers are JSON");
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
