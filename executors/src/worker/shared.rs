//! The shared area: what the parent has to know of a batch while it runs, and after the child was killed in the middle.
//!
//! ```text
//!   page 0          head of slot 0, head of slot 1
//!   64 MiB          outcomes of slot 0: length (u32) and bytes, one after the other
//!   64 MiB          outcomes of slot 1
//! ```
//!
//! A memfd that both map. Pages exist once they are written, so the size is a limit and costs nothing. Two slots, as
//! two batches are in flight: batch `id` uses slot `id % 2`. The child alone writes, without a system call.
//!
//! An outcome becomes visible by one store to the head, after its bytes: whenever the child is killed, the parent sees
//! the first so many outcomes whole, and never a part of the next. A head is read like a seqlock: its batch number is
//! zero while the other words change.
//!
//! The parent trusts nothing in here: user code may write anywhere. Lengths are checked, and the memfd is sealed
//! against shrinking, which would turn a read into SIGBUS.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::{NonNull, copy_nonoverlapping, null_mut};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::fs::{fallocate, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::clock;

/// How many batches can be in flight.
pub const SLOTS: usize = 2;

/// Bytes of outcomes that a slot can hold, with four more for each: far more than a batch should return.
pub const CAPACITY: usize = 64 << 20;

/// What [`Area::trim`] leaves: a usual batch writes into pages that it has had before.
const KEPT: usize = 1 << 20;

const HEADS: usize = 4096;
const SIZE: usize = HEADS + SLOTS * CAPACITY;
const LENGTH: usize = size_of::<u32>();

/// The slot of a batch.
#[must_use]
pub const fn slot_of(batch: u64) -> usize {
    (batch % SLOTS as u64) as usize
}

/// On a cache line of its own.
#[repr(C, align(64))]
struct Head {
    /// The batch's number, zero while the head is being changed.
    batch: AtomicU64,
    /// The event that was begun last: its index plus one in the upper 16 bits, and below them when, in microseconds
    /// of the monotonic clock. One word, so that the two always belong together; 48 bits last nine years of uptime.
    begun: AtomicU64,
    /// How many events have ended, and in the upper half how many of their outcomes are stored here.
    ended: AtomicU64,
    /// Bytes of the outcomes, for [`Area::trim`].
    used: AtomicU64,
}

const MOMENT: u32 = 48;

/// What was going on in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The batch.
    pub batch: u64,
    /// How many of its events have ended.
    pub finished: usize,
    /// How many outcomes [`Area::outcomes`] has. Fewer than `finished` where one did not fit: that one and all after
    /// it come in a frame.
    pub stored: usize,
    /// The index of the event that runs, and since when.
    pub running: Option<(usize, Instant)>,
}

/// The mapping itself.
struct Map(NonNull<u8>);

// SAFETY: the mapping belongs to the process, not to a thread; heads are atomics, and the outcomes of a slot are written
// under the writer's lock
unsafe impl Send for Map {}
// SAFETY: as above
unsafe impl Sync for Map {}

impl Map {
    fn new(fd: &OwnedFd) -> io::Result<Self> {
        // SAFETY: a new mapping of a file of at least this size, wherever the kernel likes
        let start = unsafe { mmap(null_mut(), SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0) }?;
        NonNull::new(start.cast()).map(Self).ok_or_else(|| io::Error::other("a mapping at address zero"))
    }

    fn head(&self, slot: usize) -> &Head {
        assert!(slot < SLOTS, "there is no slot {slot}");
        // SAFETY: inside the first page, aligned as a page is, and atomics are all that is ever accessed there
        unsafe { self.0.cast::<Head>().add(slot).as_ref() }
    }

    /// The first byte of a slot's outcomes, which [`CAPACITY`] bytes belong to.
    fn outcomes(&self, slot: usize) -> *mut u8 {
        assert!(slot < SLOTS, "there is no slot {slot}");
        // SAFETY: inside the mapping
        unsafe { self.0.as_ptr().add(HEADS + slot * CAPACITY) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size; nothing borrowed from it outlives `self`
        let _ = unsafe { munmap(self.0.as_ptr().cast(), SIZE) };
    }
}

/// The parent's side.
pub struct Area {
    map: Map,
    fd: OwnedFd,
}

impl Area {
    /// A new area, and the descriptor that the child opens. Both descriptors close on exec.
    ///
    /// # Errors
    /// No descriptor or no address space is left.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let fd = memfd_create("gaugefn-worker", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, SIZE as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let area = Self { map: Map::new(&fd)?, fd };
        let other = fcntl_dupfd_cloexec(&area.fd, 0)?;
        Ok((area, other))
    }

    /// The child's side of the same area.
    ///
    /// # Errors
    /// The descriptor is none of [`create`](Self::create)'s.
    pub fn open(fd: OwnedFd) -> io::Result<Writer> {
        let sealed = fcntl_get_seals(&fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed || fstat(&fd)?.st_size != SIZE as i64 {
            return Err(io::Error::other("the descriptor is not a shared area of this version"));
        }
        Ok(Writer { map: Map::new(&fd)?, slots: Default::default() })
    }

    /// What is going on in a slot; `None` where it has had no batch yet, or is just getting one.
    #[must_use]
    pub fn progress(&self, slot: usize) -> Option<Progress> {
        let head = self.map.head(slot);
        let batch = head.batch.load(Ordering::Acquire);
        // in this order: an event that ended in between is then still the one that was begun
        let ended = head.ended.load(Ordering::Acquire);
        let begun = head.begun.load(Ordering::Acquire);
        fence(Ordering::Acquire);
        if batch == 0 || head.batch.load(Ordering::Relaxed) != batch {
            return None;
        }
        let (finished, stored) = ((ended & u64::from(u32::MAX)) as usize, (ended >> 32) as usize);
        let since = (begun & ((1 << MOMENT) - 1)) * 1000;
        let running = ((begun >> MOMENT) as usize)
            .checked_sub(1)
            .filter(|index| *index >= finished)
            .map(|index| (index, clock::instant(since)));
        Some(Progress { batch, finished, stored, running })
    }

    /// The outcomes that are stored in a slot, of its first events on, each in the form of
    /// [`encode_one`](super::protocol::outcome::encode_one). Copied once, into memory that they share. There are `most`
    /// events in the batch, whatever user code may have written over the count.
    #[must_use]
    pub fn outcomes(&self, slot: usize, most: usize) -> Vec<Bytes> {
        let Some(progress) = self.progress(slot) else { return Vec::new() };
        let used = self.map.head(slot).used.load(Ordering::Relaxed).min(CAPACITY as u64) as usize;
        let mut copy = vec![0; used];
        // SAFETY: `used` bytes belong to the slot. The child changes none of those before the last stored outcome; any
        // others, and those that user code overwrites, may be torn, and are bytes nevertheless
        unsafe { copy_nonoverlapping(self.map.outcomes(slot), copy.as_mut_ptr(), used) };
        fence(Ordering::Acquire);
        if self.map.head(slot).batch.load(Ordering::Relaxed) != progress.batch {
            return Vec::new();
        }
        let mut rest = Bytes::from(copy);
        let mut outcomes = Vec::new();
        while outcomes.len() < progress.stored.min(most) && rest.len() >= LENGTH {
            let length = rest.split_to(LENGTH);
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if length > rest.len() {
                break;
            }
            outcomes.push(rest.split_to(length));
        }
        outcomes
    }

    /// Gives memory back that a batch of large outcomes has taken. To be called once its outcomes are taken and before
    /// the slot's next batch is sent; a usual batch costs one load.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn trim(&self, slot: usize) -> io::Result<()> {
        if self.map.head(slot).used.load(Ordering::Relaxed) <= KEPT as u64 {
            return Ok(());
        }
        let (from, length) = (HEADS + slot * CAPACITY + KEPT, CAPACITY - KEPT);
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.fd, mode, from as u64, length as u64)?)
    }
}

impl fmt::Debug for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..SLOTS).map(|slot| self.progress(slot))).finish()
    }
}

/// The writer's own account, which user code cannot spoil.
#[derive(Default)]
struct Written {
    used: usize,
    ended: u32,
    stored: u32,
}

/// The child's side, used by the thread that runs user code. Any thread may.
pub struct Writer {
    map: Map,
    /// Locked for each outcome, without contention in practice: two threads at once would write to the same place.
    slots: [Mutex<Written>; SLOTS],
}

impl Writer {
    /// A batch begins; the parent has taken what the slot held. `batch` is never zero.
    pub fn begin_batch(&self, slot: usize, batch: u64) {
        let head = self.map.head(slot);
        let mut written = self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner);
        *written = Written::default();
        head.batch.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        head.begun.store(0, Ordering::Relaxed);
        head.ended.store(0, Ordering::Relaxed);
        head.used.store(0, Ordering::Relaxed);
        head.batch.store(batch, Ordering::Release);
    }

    /// The event of this index, below 65,535, is about to be given to the function.
    pub fn begin_event(&self, slot: usize, index: usize) {
        let index = (index as u64 + 1).min(u64::from(u16::MAX));
        let moment = (clock::now() / 1000) & ((1 << MOMENT) - 1);
        self.map.head(slot).begun.store(index << MOMENT | moment, Ordering::Release);
    }

    /// The next event has ended with this outcome. False where it is not stored, as it or one before it did not fit:
    /// then it must go by frame.
    #[must_use]
    pub fn finish_event(&self, slot: usize, outcome: &[u8]) -> bool {
        let head = self.map.head(slot);
        let mut written = self.slots[slot].lock().unwrap_or_else(PoisonError::into_inner);
        let after = written.used.saturating_add(LENGTH).saturating_add(outcome.len());
        // outcomes have no numbers, so there can be none behind one that is missing
        let fits = after <= CAPACITY && written.stored == written.ended;
        if fits {
            let length = (outcome.len() as u32).to_le_bytes();
            // SAFETY: inside the slot, as just checked, and under its lock; the parent does not look there before the
            // store below
            unsafe {
                let place = self.map.outcomes(slot).add(written.used);
                copy_nonoverlapping(length.as_ptr(), place, LENGTH);
                copy_nonoverlapping(outcome.as_ptr(), place.add(LENGTH), outcome.len());
            }
            written.used = after;
            written.stored += 1;
            head.used.store(after as u64, Ordering::Relaxed);
        }
        written.ended += 1;
        head.ended.store(u64::from(written.stored) << 32 | u64::from(written.ended), Ordering::Release);
        fits
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    fn pair() -> (Area, Writer) {
        let (area, fd) = Area::create().unwrap();
        (area, Area::open(fd).unwrap())
    }

    fn blocks(area: &Area) -> u64 {
        fstat(&area.fd).unwrap().st_blocks as u64 * 512
    }

    #[test]
    fn the_parent_follows_a_batch_event_by_event() {
        let (area, writer) = pair();
        assert_eq!(area.progress(1), None);
        writer.begin_batch(1, 7);
        let idle = Progress { batch: 7, finished: 0, stored: 0, running: None };
        assert_eq!(area.progress(1), Some(idle));
        let before = Instant::now();
        writer.begin_event(1, 0);
        std::thread::sleep(Duration::from_millis(20));
        let (index, since) = area.progress(1).unwrap().running.unwrap();
        assert_eq!(index, 0);
        assert!(since.elapsed() >= Duration::from_millis(20), "{:?}", since.elapsed());
        assert!(since + Duration::from_millis(1) >= before);
        assert!(writer.finish_event(1, b"first"));
        assert_eq!(area.progress(1), Some(Progress { finished: 1, stored: 1, ..idle }));
        writer.begin_event(1, 1);
        assert_eq!(area.progress(1).unwrap().running.unwrap().0, 1);
        assert!(writer.finish_event(1, b""));
        // one that never ran: a malformed event
        assert!(writer.finish_event(1, b"third"));
        assert_eq!(area.outcomes(1, 1000), ["first", "", "third"]);
        assert_eq!(area.progress(0), None, "the other slot is another batch's");

        writer.begin_batch(1, 9);
        assert_eq!(area.progress(1), Some(Progress { batch: 9, ..idle }));
        assert_eq!(area.outcomes(1, 1000), Vec::<Bytes>::new());
    }

    #[test]
    fn what_does_not_fit_goes_by_frame_and_so_does_all_after_it() {
        let (area, writer) = pair();
        writer.begin_batch(0, 2);
        assert!(writer.finish_event(0, b"fits"));
        assert!(!writer.finish_event(0, &vec![0; CAPACITY]));
        assert!(!writer.finish_event(0, b"would fit"));
        assert_eq!(area.progress(0), Some(Progress { batch: 2, finished: 3, stored: 1, running: None }));
        assert_eq!(area.outcomes(0, 1000), ["fits"]);
        writer.begin_batch(0, 4);
        assert!(writer.finish_event(0, &vec![1; CAPACITY - LENGTH]), "exactly as much as there is room");
        assert_eq!(area.outcomes(0, 1000)[0].len(), CAPACITY - LENGTH);
    }

    #[test]
    fn memory_is_what_was_written_and_goes_after_a_large_batch() {
        let (area, writer) = pair();
        assert!(blocks(&area) <= 4096);
        writer.begin_batch(0, 2);
        writer.begin_batch(1, 1);
        assert!(writer.finish_event(0, &vec![1; 40 << 20]));
        assert!(writer.finish_event(1, &vec![1; KEPT / 2]));
        assert!(blocks(&area) >= 40 << 20);
        area.trim(0).unwrap();
        area.trim(1).unwrap();
        let left = blocks(&area) as usize;
        assert!((KEPT..=2 * KEPT).contains(&left), "{left}");
        writer.begin_batch(0, 4);
        assert!(writer.finish_event(0, &vec![2; 2 << 20]));
        assert_eq!(area.outcomes(0, 1000)[0], vec![2; 2 << 20]);
    }

    #[test]
    fn damage_ends_the_list_and_nothing_else() {
        let (area, writer) = pair();
        writer.begin_batch(0, 2);
        assert!(writer.finish_event(0, b"one"));
        assert!(writer.finish_event(0, b"two"));
        // user code wrote over the second length, and over the head
        // SAFETY: inside the slot
        unsafe { writer.map.outcomes(0).add(LENGTH + 3 + LENGTH - 1).write(255) };
        assert_eq!(area.outcomes(0, 1000), ["one"]);
        writer.map.head(0).used.store(u64::MAX, Ordering::Relaxed);
        writer.map.head(0).ended.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(area.outcomes(0, 1000), ["one"]);
        // SAFETY: as above
        unsafe { writer.map.outcomes(0).add(LENGTH + 3 + LENGTH - 1).write(0) };
        assert_eq!(area.outcomes(0, 1000).len(), 1000, "and not as many as there are zeros");
        assert_eq!(area.progress(0).unwrap().running, None);
        area.trim(0).unwrap();
    }

    #[test]
    fn other_descriptors_are_refused_and_the_size_is_fixed() {
        let plain = memfd_create("plain", MemfdFlags::CLOEXEC).unwrap();
        let error = Area::open(plain).unwrap_err().to_string();
        assert_eq!(error, "the descriptor is not a shared area of this version");
        let (_area, fd) = Area::create().unwrap();
        assert!(ftruncate(&fd, 10).is_err(), "a child could make the parent die of SIGBUS");
    }

    #[test]
    fn a_reader_never_sees_a_torn_outcome_or_a_mixed_head() {
        let (area, writer) = pair();
        let enough = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for batch in (1..).take_while(|_| !enough.load(Ordering::Relaxed)) {
                    writer.begin_batch(0, batch);
                    for index in 0..(batch % 7) as usize {
                        writer.begin_event(0, index);
                        let outcome = vec![batch as u8; 1 + index * 37];
                        assert!(writer.finish_event(0, &outcome));
                    }
                }
            });
            let mut seen = 0;
            let start = Instant::now();
            while seen < 1000 && start.elapsed() < Duration::from_secs(10) {
                if let Some(progress) = area.progress(0) {
                    assert!(progress.finished <= (progress.batch % 7) as usize, "{progress:?}");
                    assert_eq!(progress.finished, progress.stored);
                    let running = progress.running.map_or(0, |(index, _)| index);
                    assert!(running < 7);
                }
                let outcomes = area.outcomes(0, 1000);
                if let Some(first) = outcomes.first() {
                    for (index, outcome) in outcomes.iter().enumerate() {
                        assert_eq!(outcome, &vec![first[0]; 1 + index * 37]);
                    }
                    seen += 1;
                }
            }
            enough.store(true, Ordering::Relaxed);
            assert!(seen > 0);
        });
    }

    mod timing {
        use super::*;

        #[test]
        fn an_event_costs_the_child_next_to_nothing() {
            let (area, writer) = pair();
            let outcome = [7; 100];
            let best = (0..5)
                .map(|round| {
                    writer.begin_batch(0, round + 1);
                    let start = Instant::now();
                    for index in 0..1000 {
                        writer.begin_event(0, index);
                        assert!(writer.finish_event(0, &outcome));
                    }
                    start.elapsed() / 1000
                })
                .min()
                .unwrap();
            assert_eq!(area.progress(0).unwrap().stored, 1000);
            // ten times what an optimised build needs
            assert!(best < Duration::from_micros(1), "{best:?} for each event");
        }
    }
}
