//! The admin endpoint of a running binary, asked over one connection that is kept.

use super::port::Port;
use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// An address for the endpoint, and the connection to it once somebody listens there.
pub(crate) struct Admin {
    port: Port,
    connection: Option<BufReader<TcpStream>>,
}

impl Admin {
    /// Reserves a port; nothing listens there yet.
    pub(crate) fn reserve() -> Self {
        Self { port: Port::reserve(), connection: None }
    }

    /// The value of `GAUGEFN__ADMIN__LISTEN`.
    pub(crate) fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Status and body of a GET. A connection that fails is opened anew by the next call.
    pub(crate) fn get(&mut self, path: &str) -> Result<(u16, String)> {
        let answer = self.ask(path);
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// The sum of a metric over all label sets of one function; `None` where there is no such series yet.
    /// `name` goes without the prefix `gaugefn_`.
    pub(crate) fn metric(&mut self, name: &str, function: &str) -> Result<Option<f64>> {
        let (status, body) = self.get("/metrics")?;
        if status != 200 {
            return Err(Error::other(format!("/metrics answered {status}: {body}")));
        }
        let values: Vec<f64> = series(&body, name, function).collect();
        Ok((!values.is_empty()).then(|| values.iter().sum()))
    }

    fn ask(&mut self, path: &str) -> Result<(u16, String)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number()))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                none.insert(BufReader::new(stream))
            }
        };
        let host = format!("127.0.0.1:{}", self.port.number());
        connection.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
        answer(connection)
    }
}

fn answer(connection: &mut impl BufRead) -> Result<(u16, String)> {
    let malformed = |text: &str| Error::new(ErrorKind::InvalidData, text.to_owned());
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| malformed(&line))?;
    let mut length = None;
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok();
            }
            Some(_) => {}
            None => break,
        }
    }
    let length: usize = length.ok_or_else(|| malformed("an answer without content-length"))?;
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    String::from_utf8(body).map(|body| (status, body)).map_err(|_| malformed("an answer that is not UTF-8"))
}

fn series<'a>(body: &'a str, name: &str, function: &str) -> impl Iterator<Item = f64> + 'a {
    let (start, label) = (format!("gaugefn_{name}{{"), format!("function=\"{function}\""));
    body.lines()
        .filter(move |line| line.starts_with(&start) && line.contains(&label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
}

#[test]
fn sums_the_series_of_one_function() {
    let body = "# TYPE gaugefn_invocations_total counter\n\
        gaugefn_invocations_total{function=\"default\",outcome=\"stored\"} 3\n\
        gaugefn_invocations_total{function=\"default\",outcome=\"failed\"} 4\n\
        gaugefn_invocations_total{function=\"other\",outcome=\"failed\"} 8\n\
        gaugefn_invocations_total_more{function=\"default\"} 16\n";
    assert_eq!(series(body, "invocations_total", "default").sum::<f64>(), 7.0);
}

#[test]
fn reads_one_answer_and_leaves_the_next() {
    let mut wire = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"[..];
    assert_eq!(answer(&mut wire).unwrap(), (200, "ok".to_owned()));
    assert_eq!(answer(&mut wire).unwrap(), (503, String::new()));
}
