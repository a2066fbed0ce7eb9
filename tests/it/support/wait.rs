//! Waiting for something that happens elsewhere.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Short against every period in the tests, long enough to leave the processor to the process that is waited for.
const STEP: Duration = Duration::from_millis(2);

/// Asks `probe` every 2 ms until it answers; `None` when `timeout` passed without an answer.
/// The probe runs at least once, and once more at the end of the time.
#[must_use]
pub(crate) fn eventually<T>(timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        let last = Instant::now() >= end;
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if last {
            return None;
        }
        sleep(STEP);
    }
}
