//! How many entries are asked for at once: fewer where an answer was too large to come in time.

/// Good answers before more is asked for.
const GOOD: u32 = 16;

/// The most good answers that are waited for: each try that fails costs a time-out.
const MOST_GOOD: u32 = 4096;

/// What is asked for at once.
#[derive(Debug)]
pub struct Portion {
    most: usize,
    now: usize,
    /// Good answers since the last change.
    good: u32,
    /// How many of them it takes to try more.
    wanted: u32,
}

impl Portion {
    pub const fn new(most: usize) -> Self {
        Self { most, now: most, good: 0, wanted: GOOD }
    }

    pub const fn now(&self) -> usize {
        self.now
    }

    /// An answer to so many did not come in time: half of it from now on. How many that is, where it is less than before.
    pub fn halve(&mut self, asked: usize) -> Option<usize> {
        if self.now < self.most {
            // more was tried, and was too much
            self.wanted = (self.wanted * 2).min(MOST_GOOD);
        }
        self.good = 0;
        let half = (asked.min(self.now) / 2).max(1);
        (half < std::mem::replace(&mut self.now, half)).then_some(half)
    }

    /// An answer has come.
    pub fn succeed(&mut self) {
        if self.now == self.most {
            return;
        }
        self.good += 1;
        if self.good >= self.wanted {
            (self.now, self.good) = (self.now.saturating_mul(2).min(self.most), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn succeed(portion: &mut Portion, times: u32) {
        (0..times).for_each(|_| portion.succeed());
    }

    #[test]
    fn it_halves_down_to_one_and_grows_back() {
        let mut portion = Portion::new(100);
        let halves: Vec<_> = std::iter::from_fn(|| portion.halve(100)).collect();
        assert_eq!(halves, [50, 25, 12, 6, 3, 1]);
        assert_eq!(portion.now(), 1);
        succeed(&mut portion, 100_000);
        assert_eq!(portion.now(), 100);
    }

    #[test]
    fn what_was_too_much_is_tried_ever_more_seldom() {
        let mut portion = Portion::new(100);
        assert_eq!(portion.halve(40), Some(20), "of what was asked for, not of what may be");
        succeed(&mut portion, GOOD);
        assert_eq!(portion.now(), 40);
        assert_eq!(portion.halve(40), Some(20));
        succeed(&mut portion, 2 * GOOD - 1);
        assert_eq!(portion.now(), 20);
        succeed(&mut portion, 1);
        assert_eq!(portion.now(), 40);
    }
}
