//! A real redis-server on a free loopback port, in a folder of its own, stopped by its pid at the end.

// several test binaries, each with its part of the harness
#![allow(dead_code)]

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis_link::{Link, LinkError, Settings, Target};
use rustix::process::{Pid, Signal, kill_process};

/// Generous: nothing waits this long unless the machine is in trouble or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Server {
    child: Child,
    folder: tempfile::TempDir,
    options: Vec<String>,
    pub(crate) port: u16,
    tls: bool,
}

impl Server {
    /// Starts a server with further options, as they stand on its command line.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options, false)
    }

    pub(crate) fn start_in(folder: tempfile::TempDir, options: &[&str], tls: bool) -> Self {
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        // another process may take the port between finding it and listening on it
        for _ in 0..5 {
            let port = free_port();
            let mut child = spawn(folder.path(), port, tls, &options);
            if listens(&mut child, folder.path(), port) {
                return Self { child, folder, options, port, tls };
            }
        }
        panic!(
            "redis-server does not start: {}",
            std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        );
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(crate) fn target(&self, user: Option<&str>, password: Option<&str>) -> Target {
        Settings {
            host: Some("127.0.0.1".to_owned()),
            port: Some(self.port),
            username: user.map(str::to_owned),
            password: password.map(str::to_owned),
            ..Settings::default()
        }
        .resolve(None)
        .unwrap()
    }

    pub(crate) fn link(&self) -> Link {
        Link::new(self.target(None, None))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port and folder, with further options.
    pub(crate) fn restart(&mut self, options: &[&str]) {
        self.kill();
        self.options.extend(options.iter().map(|word| (*word).to_owned()));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.child = spawn(self.folder.path(), self.port, self.tls, &self.options);
            if listens(&mut self.child, self.folder.path(), self.port) {
                return;
            }
        }
        panic!("redis-server does not start again on port {}", self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, port: u16, tls: bool, options: &[String]) -> Child {
    let (plain, secure) = if tls { (0, port) } else { (port, 0) };
    let log = File::create(folder.join("log")).unwrap();
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .args(["--port", &plain.to_string(), "--tls-port", &secure.to_string()])
        .args(["--unixsocket", "redis.sock", "--dir", "."])
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("redis-server not found: install it with 'apt-get install redis-server' ({error})")
        })
}

/// Ready once port and socket accept. The socket is made last, in the folder that only this server has.
fn listens(child: &mut Child, folder: &Path, port: u16) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if UnixStream::connect(folder.join("redis.sock")).is_ok() && TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Runs a command given as one line.
pub(crate) async fn run(link: &Link, line: &str) -> Result<redis::Value, LinkError> {
    let mut words = line.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    for word in words {
        cmd.arg(word);
    }
    link.query(&cmd).await
}

/// Repeats a GET, as the engine does, until it succeeds.
pub(crate) async fn recovered(link: &Link, key: &str) -> Option<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match link.get(key).await {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => panic!("no recovery: {error}"),
            Err(error) => assert!(error.retry(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut probe: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !probe().await {
        assert!(Instant::now() < deadline, "it does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A certificate authority and a certificate for 127.0.0.1, in `folder`: ca.crt, redis.crt, redis.key.
pub(crate) fn certificates(folder: &Path) {
    let openssl = |words: &[&str]| {
        let output =
            Command::new("openssl").args(words).current_dir(folder).output().unwrap_or_else(|error| {
                panic!("openssl not found: install it with 'apt-get install openssl' ({error})")
            });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    openssl(&[&authority[..], &curve, &["-keyout", "ca.key", "-out", "ca.crt"]].concat());
    let request = ["req", "-subj", "/CN=redis"];
    openssl(&[&request[..], &curve, &["-keyout", "redis.key", "-out", "redis.csr"]].concat());
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "redis.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "redis.crt",
    ]);
}
