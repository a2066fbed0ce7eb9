//! Whether a series of metrics may be: a worker asks, its parent, who has the page, answers. A line of JSON each way, the
//! answer empty where it may.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as BlockingSocket;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::measure::{self, Kind, Series, admit_here};

/// Far above what a question or an answer has, as names and labels have their limits.
const LONGEST: u64 = 64 << 10;

/// A parent that does not answer by then is not asked any more. It looks at all measurements once more itself.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    kind: Kind,
    name: String,
    labels: Vec<(String, String)>,
}

/// Child: from now on, series are admitted by the parent.
pub(super) fn ask(socket: BlockingSocket) {
    let asker = Mutex::new(Some(BufReader::new(socket)));
    measure::ask(move |series| {
        let mut asker = asker.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(socket) = asker.as_mut() else { return Ok(()) };
        match asked(socket, series) {
            Ok(answer) if answer.is_empty() => Ok(()),
            Ok(answer) => Err(answer),
            Err(_) => {
                // the answer to this one might be taken for that to the next
                *asker = None;
                Ok(())
            }
        }
    });
}

fn asked(socket: &mut BufReader<BlockingSocket>, series: &Series<'_>) -> std::io::Result<String> {
    let question = Question { kind: series.kind, name: series.name.to_owned(), labels: series.labels.to_vec() };
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    let stream = socket.get_mut();
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&line)?;
    let mut answer = String::new();
    socket.take(LONGEST).read_line(&mut answer)?;
    let answer = answer.strip_suffix('\n').ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_str(answer)?)
}

/// Parent: answers until the other side has gone, or says what is no question.
pub(super) async fn answer(function: Arc<str>, socket: UnixStream) {
    let (read, mut write) = socket.into_split();
    let mut read = tokio::io::BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let read = (&mut read).take(LONGEST).read_until(b'\n', &mut line).await;
        let (Ok(1..), Ok(question)) = (read, serde_json::from_slice::<Question>(&line)) else { return };
        let Question { kind, name, labels } = question;
        let answer = admit_here(&Series { function: &function, kind, name: &name, labels: &labels });
        let Ok(mut line) = serde_json::to_vec(&answer.err().unwrap_or_default()) else { return };
        line.push(b'\n');
        if write.write_all(&line).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn questions_are_answered_one_after_the_other() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let answering = tokio::spawn(answer("asked".into(), ours));
        let mut socket = BufReader::new(theirs.into_std().unwrap());
        let answers = tokio::task::spawn_blocking(move || {
            let labels = [("a".to_owned(), "\n\"é".to_owned())];
            [(Kind::Count, "calls"), (Kind::Gauge, "calls"), (Kind::Count, "calls")]
                .map(|(kind, name)| asked(&mut socket, &Series { function: "", kind, name, labels: &labels }).unwrap())
        });
        let answers = answers.await.unwrap();
        assert_eq!((answers[0].as_str(), answers[2].as_str()), ("", ""));
        assert!(answers[1].starts_with("the name was used for another kind before"), "{answers:?}");
        answering.await.unwrap();
    }
}
