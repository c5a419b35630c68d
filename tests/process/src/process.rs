//! Any process with a deadline.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A process that has ended.
#[derive(Debug)]
pub struct Done {
    /// Absent when a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

impl Done {
    /// # Panics
    /// Unless it exited with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "exit code\nstderr: {}\nstdout: {}", self.stderr, self.head());
        self
    }

    /// # Panics
    /// Unless it exited with a code that says failure.
    #[track_caller]
    pub fn fails(self) -> Done {
        let failed = matches!(self.code, Some(1..=5));
        assert!(failed, "exit code {:?}\nstderr: {}\nstdout: {}", self.code, self.stderr, self.head());
        self
    }

    /// # Panics
    /// Unless stderr has every one of `words`, whatever their case.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Done {
        let text = self.stderr.to_lowercase();
        for word in words {
            assert!(text.contains(&word.to_lowercase()), "'{word}' is missing in: {}", self.stderr);
        }
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn head(&self) -> String {
        self.text().chars().take(2000).collect()
    }
}

/// Runs it to its end.
///
/// # Panics
/// When the deadline passes: the process is killed first.
#[track_caller]
pub fn run(command: Command, input: Vec<u8>, deadline: Duration) -> Done {
    let mut running = Running::spawn(command);
    running.write_in_background(input);
    running.finish(deadline)
}

/// A process whose output is being collected.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    start: Instant,
}

impl Running {
    #[track_caller]
    pub fn spawn(mut command: Command) -> Running {
        let start = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let spawned = command.spawn();
        let mut child =
            spawned.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Running { child, stdout, stderr, start }
    }

    /// Blocks while the process does not read; an error means that it has gone.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.child.stdin.as_mut().expect("not closed yet").write_all(bytes)
    }

    /// Writes everything and closes; a process that does not read it all is no error.
    pub fn write_in_background(&mut self, bytes: Vec<u8>) {
        let mut stdin = self.child.stdin.take().expect("not closed yet");
        thread::spawn(move || drop(stdin.write_all(&bytes)));
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes its input and waits for its end.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Done {
        drop(self.child.stdin.take());
        let end = self.start.max(Instant::now()) + deadline;
        let left = || end.saturating_duration_since(Instant::now());
        let Ok(stdout) = self.stdout.recv_timeout(left()) else { self.give_up(deadline) };
        let Ok(stderr) = self.stderr.recv_timeout(left()) else { self.give_up(deadline) };
        let status = self.child.wait().expect("own child");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Done { code: status.code(), stdout, stderr, took: self.start.elapsed() }
    }

    #[track_caller]
    fn give_up(&mut self, deadline: Duration) -> ! {
        self.kill();
        let stderr = self.stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        panic!("still running after {deadline:?}; stderr: {}", String::from_utf8_lossy(&stderr))
    }

    fn kill(&mut self) {
        // Fails when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process whose output nobody takes, ended when it is dropped.
#[derive(Debug)]
pub struct Unread(Child);

impl Unread {
    #[track_caller]
    pub fn spawn(mut command: Command) -> Unread {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Unread(command.spawn().expect("the command can be run"))
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Fails when it has ended, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        let _ = send.send(all);
    });
    receive
}
