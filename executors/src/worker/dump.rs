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
    let (file, line, name) = frames.iter().find(|(file, _, _)| is_own(file)).or(frames.first())?;
    Some(format!("{file}:{line} in {name}"))
}

/// What a process that is loading, or that is to end, does according to a text of `faulthandler`: "at /opt/f.py:7 in job".
/// Where the thread that was asked waits for others, it is what those do.
#[must_use]
pub fn doing(report: &str) -> Option<String> {
    let (mut current, mut others, mut ends) = (None, Vec::new(), None);
    for thread in report.split("\n\n") {
        let frames: Vec<_> = thread.lines().filter_map(frame_of).collect();
        let own = frames
            .iter()
            .find(|(file, _, _)| is_own(file))
            .map(|(file, line, name)| format!("{file}:{line} in {name}"));
        if let Some((name, words)) = ENDS.iter().find(|(name, _)| frames.iter().any(|frame| frame.2 == *name)) {
            (current, ends) = (own, Some((*name, *words)));
        } else if thread.starts_with("Current thread") {
            current = own;
        } else {
            others.extend(own);
        }
    }
    others.sort();
    others.dedup();
    // the thread that was asked may wait for others, or for one of them to let it run
    let waits = ends.is_none_or(|(step, _)| step == WAITS);
    let places = if current.is_none() && waits { others } else { Vec::from_iter(current) };
    if !places.is_empty() {
        return Some(format!("at {}", places.join(", ")));
    }
    ends.map(|(_, words)| words.to_owned()).or_else(|| innermost(report).map(|place| format!("at {place}")))
}

/// The step in which Python waits for threads.
const WAITS: &str = "_end_threads";

/// The steps of a Python function's end, as `call.py` names them, in words.
const ENDS: [(&str, &str); 3] = [
    ("_end_loop", "ending its event loop"),
    (WAITS, "waiting for its threads"),
    ("_end_functions", "in an atexit function"),
];

/// Python's own files and installed packages at the top of a stack are how the function waits, not where.
fn is_own(file: &str) -> bool {
    !file.contains("/lib/python3") && !file.starts_with('<')
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

    #[test]
    fn what_holds_up_an_end_is_read_off_a_dump() {
        let end = |step: &str, frames: &str| {
            format!(
                "Thread 0x00007f (most recent call first):\n  File \"/usr/lib/python3.11/threading.py\", line 5 in wait\n  \
                 File \"/opt/f.py\", line 7 in job\n\n\
                 Current thread 0x00008f (most recent call first):\n{frames}  File \"<gaugefn>/call.py\", line 9 in {step}\n"
            )
        };
        let library = "  File \"/usr/lib/python3.11/threading.py\", line 9 in _shutdown\n";
        assert_eq!(doing(&end("_end_threads", library)).as_deref(), Some("at /opt/f.py:7 in job"));
        let own = "  File \"/opt/f.py\", line 3 in bye\n";
        assert_eq!(doing(&end("_end_functions", own)).as_deref(), Some("at /opt/f.py:3 in bye"));
        let report = end("_end_functions", "");
        let current = report.split("\n\n").last().unwrap_or_default();
        assert_eq!(doing(current).as_deref(), Some("in an atexit function"));
        let loading = format!("Current thread 0x00008f (most recent call first):\n{own}");
        assert_eq!(doing(&loading).as_deref(), Some("at /opt/f.py:3 in bye"));
        let held = end("", "").replace("File \"<gaugefn>/call.py\", line 9 in ", "<no Python frame>");
        assert_eq!(doing(&held).as_deref(), Some("at /opt/f.py:7 in job"));
        assert_eq!(doing(""), None);
    }
}
