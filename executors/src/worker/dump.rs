//! Where a worker is stuck, or crashed: the text that Python's `faulthandler` writes into a pipe of its own.
//!
//! The child calls `arm` of [`PYTHON`] with the pipe's descriptor and [`signal`]. Parent side is the rest.

use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use super::exit::Watch;

/// Text of a Python module with `arm(descriptor, signal)`: from then on crashes write the stack of every thread, and
/// so does the signal, whatever the threads do.
pub const PYTHON: &str = include_str!("dump.py");

/// How long the first byte may take: a process that is swapped in, or in the middle of a system call.
const FIRST: Duration = Duration::from_millis(300);

/// Silence after which the text is complete.
const SILENCE: Duration = Duration::from_millis(20);

/// In all. A process with a hundred deep stacks is still writing after that, and is killed meanwhile.
const WHOLE: Duration = Duration::from_millis(500);

/// The most that is kept; `faulthandler` stops at 100 threads and 100 frames of each.
const LONGEST: usize = 1 << 20;

/// The signal's number, one that neither C libraries nor users of Python are fond of.
#[must_use]
pub fn signal() -> i32 {
    libc::SIGRTMAX() - 1
}

/// Asks a child that has [armed](PYTHON) itself where it is, and waits at most half a second for the text. It is empty
/// where the child does not answer. A child that has not armed itself would be killed by the signal.
pub async fn ask(watch: &Watch, pipe: &Receiver) -> String {
    // what an earlier one has left would be taken for the answer
    drop(rest(pipe));
    // one that has just ended does not answer
    if watch.signal(signal()).is_err() {
        return String::new();
    }
    let mut text = Vec::new();
    let collect = async {
        let mut patience = FIRST;
        while text.len() < LONGEST && matches!(timeout(patience, pipe.readable()).await, Ok(Ok(()))) {
            match pipe.try_read_buf(&mut text) {
                Ok(1..) => patience = SILENCE,
                // readiness was stale
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
    };
    // what has come is used
    let _ = timeout(WHOLE, collect).await;
    lossy(text)
}

/// What stands in the pipe, without waiting: after a crash, the stack of the crash.
#[must_use]
pub fn rest(pipe: &Receiver) -> String {
    let mut text = Vec::new();
    while text.len() < LONGEST && matches!(pipe.try_read_buf(&mut text), Ok(1..)) {}
    lossy(text)
}

fn lossy(text: Vec<u8>) -> String {
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// The innermost frame of the function's own on the thread that was asked, in a text of `faulthandler`:
/// `/opt/f.py:7 in handler`.
#[must_use]
pub fn innermost(report: &str) -> Option<String> {
    let main = report
        .split("\n\n")
        .find(|thread| thread.starts_with("Current thread"))
        .or_else(|| report.split("\n\n").last())?;
    let frames: Vec<_> = main.lines().filter_map(frame_of).collect();
    // Python's own files and installed packages at the top of the stack are how the function waits, not where
    let own = |(file, _, _): &&(&str, &str, &str)| !file.contains("/lib/python3") && !file.starts_with('<');
    let (file, line, name) = frames.iter().find(own).or(frames.first())?;
    Some(format!("{file}:{line} in {name}"))
}

/// File, line and name of one line of such a text.
fn frame_of(line: &str) -> Option<(&str, &str, &str)> {
    let (file, rest) = line.trim().strip_prefix("File \"")?.split_once("\", line ")?;
    let (line, name) = rest.split_once(" in ")?;
    Some((file, line, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_frame_is_read_off_a_dump() {
        let report = "Thread 0x00007f (most recent call first):\n  File \"/usr/lib/threading.py\", line 5 in wait\n\n\
                      Current thread 0x00008f (most recent call first):\n  File \"/opt/f.py\", line 7 in inner\n  \
                      File \"/opt/f.py\", line 3 in handler\n";
        assert_eq!(innermost(report).as_deref(), Some("/opt/f.py:7 in inner"));
        let report = "Current thread 0x00008f (most recent call first):\n  \
                      File \"/usr/lib/python3.11/subprocess.py\", line 5 in wait\n  File \"/opt/f.py\", line 3 in handler\n";
        assert_eq!(innermost(report).as_deref(), Some("/opt/f.py:3 in handler"));
        let report = report.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(
            innermost(&report).as_deref(),
            Some("/usr/lib/python3.11/subprocess.py:5 in wait"),
            "better than nothing"
        );
        assert_eq!(innermost("no stack"), None);
    }
}
