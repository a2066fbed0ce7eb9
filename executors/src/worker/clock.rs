//! One clock for parent and child: nanoseconds of `CLOCK_MONOTONIC`, which all processes of a machine share.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds since the machine started.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // the monotonic clock is never negative
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The same moment as this process's own kind of time. Later than now is now.
#[must_use]
pub fn instant(nanoseconds: u64) -> Instant {
    let ago = Duration::from_nanos(now().saturating_sub(nanoseconds));
    let present = Instant::now();
    present.checked_sub(ago).unwrap_or(present)
}

/// The other way round.
#[must_use]
pub fn nanoseconds(instant: Instant) -> u64 {
    let ago = u64::try_from(instant.elapsed().as_nanos()).unwrap_or(u64::MAX);
    now().saturating_sub(ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_way_there_and_back() {
        let then = Instant::now().checked_sub(Duration::from_secs(3)).unwrap_or_else(Instant::now);
        let back = instant(nanoseconds(then));
        let gap = if back > then { back - then } else { then - back };
        assert!(gap < Duration::from_millis(50), "{gap:?}");
    }
}
