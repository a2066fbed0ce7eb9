//! A real redis-server on a loopback port, with nothing saved, in a folder that goes with it.

use super::port::Port;
use super::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::{File, read_to_string};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Far more than a start takes (about 10 ms), also on a machine that runs every test at once.
const START: Duration = Duration::from_secs(20);

/// The server. Dropping it kills the process.
pub(crate) struct RedisServer {
    child: Child,
    port: Port,
    args: Vec<OsString>,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Same, with further command line options, for example `["--requirepass", "secret"]`.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().unwrap());
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let child = spawn(&port, folder.path(), &args);
        let mut server = Self { child, port, args, folder };
        server.wait_until_it_answers();
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// `redis://127.0.0.1:PORT/0`
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port())
    }

    /// The server's folder: its log, and a good place for a unix socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    /// A blocking connection whose reads fail after 10 s instead of hanging a test on a stopped server.
    pub(crate) fn connection(&self) -> redis::Connection {
        let connection = self.client().get_connection().unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection
    }

    /// SIGKILL, and waits for the end. Everything in the server is lost.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again (killing it first where it runs) on the same port, with the same options, empty.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.child = spawn(&self.port, self.folder.path(), &self.args);
        self.wait_until_it_answers();
    }

    /// SIGSTOP: connections stay open, nothing answers.
    pub(crate) fn stop_signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// SIGCONT, the end of [`stop_signal`](Self::stop_signal).
    pub(crate) fn cont(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// What the server wrote to its log.
    pub(crate) fn log(&self) -> String {
        read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait_until_it_answers(&mut self) {
        let answered = eventually(START, || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("redis-server ended with {status}:\n{}", self.log());
            }
            answers(self.port()).then_some(())
        });
        assert!(answered.is_some(), "redis-server does not answer:\n{}", self.log());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // it may have been killed before; neither result matters any more
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: &Port, folder: &Path, args: &[OsString]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Command::new("redis-server")
        .args(["--port", &port.number().to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(folder)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => {
                panic!("redis-server is missing: install it with `apt-get install redis-server`")
            }
            _ => panic!("redis-server does not start: {error}"),
        })
}

/// Any answer to PING but LOADING counts: a server with a password refuses it and is up.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let mut answer = [0; 64];
    let asked = stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .and_then(|()| stream.write_all(b"PING\r\n"))
        .and_then(|()| stream.read(&mut answer));
    matches!(asked, Ok(length) if length > 0) && !answer.starts_with(b"-LOADING")
}

#[test]
fn comes_back_empty_on_the_same_port() {
    let mut server = RedisServer::start();
    let () = redis::cmd("SET").arg("key").arg("value").query(&mut server.connection()).unwrap();
    server.kill9();
    assert!(server.client().get_connection().is_err());
    server.restart();
    let left: usize = redis::cmd("DBSIZE").query(&mut server.connection()).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn is_silent_while_stopped_and_answers_afterwards() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    server.stop_signal();
    assert!(!answers(server.port()));
    server.cont();
    assert!(eventually(START, || answers(server.port()).then_some(())).is_some());
}
