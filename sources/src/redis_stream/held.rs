//! The entries in work, as the source, its receipts, its commits and its keeper see them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis_link::group::{Entry, Look, Memory};

/// Entries of one source, and of which group they are.
#[derive(Debug, Default)]
pub(crate) struct Held {
    entries: Mutex<Entries>,
    replaced: AtomicBool,
    regrouped: AtomicBool,
    /// Whoever acknowledges entries, and whoever makes entries pending again, does it alone: what is done must not come again.
    gate: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Entries {
    /// Given out, with a receipt that lives.
    given: BTreeSet<String>,
    /// Read or claimed at some time and neither done nor somebody else's: what has to come into a group that takes the
    /// place of this one.
    open: BTreeSet<String>,
    /// Of commits that have not been answered: they may be done.
    unsure: BTreeSet<String>,
    /// Somebody else has them, and the register says so for as long as they are given out here.
    lost: BTreeSet<String>,
    /// Given out, and deleted with their stream.
    deleted: BTreeSet<String>,
    /// The mark of the group that they are of.
    mark: String,
    /// The life of their stream, and what is remembered of it.
    life: String,
    memory: Memory,
    /// The newest entry that the group has given to anybody, as far as is known: where one in its place would begin.
    reached: Option<(u64, u64)>,
    /// The consumer that reads them.
    name: Arc<str>,
}

impl Held {
    /// Of this consumer.
    pub(super) fn of(name: &Arc<str>) -> Self {
        Self { entries: Mutex::new(Entries { name: Arc::clone(name), ..Entries::default() }), ..Self::default() }
    }

    pub(super) fn add(&self, ids: &[String]) {
        let mut entries = self.lock();
        entries.given.extend(ids.iter().cloned());
        entries.open.extend(ids.iter().cloned());
    }

    /// This consumer's, and not given out yet.
    pub(super) fn expect(&self, ids: impl IntoIterator<Item = String>) {
        self.lock().open.extend(ids);
    }

    /// Their receipt is gone.
    pub(super) fn remove(&self, ids: &[String]) {
        let mut entries = self.lock();
        for id in ids {
            entries.given.remove(id);
            entries.deleted.remove(id);
        }
    }

    /// What came of them is stored, or somebody else has them: in no group are they this process's any more.
    pub(crate) fn close(&self, ids: &[String]) {
        let mut entries = self.lock();
        for id in ids {
            entries.open.remove(id);
        }
    }

    /// Somebody else has them.
    pub(crate) fn lose(&self, ids: &[String]) {
        self.close(ids);
        self.lock().lost.extend(ids.iter().cloned());
    }

    /// Those that somebody else has, and that nobody here works on any more.
    pub(super) fn let_go(&self) -> Vec<String> {
        let entries = self.lock();
        entries.lost.difference(&entries.given).cloned().collect()
    }

    /// The register has forgotten them.
    pub(super) fn forget(&self, ids: &[String]) {
        let mut entries = self.lock();
        for id in ids {
            entries.lost.remove(id);
        }
    }

    /// From here on nobody else acknowledges entries or makes them pending again.
    pub(crate) async fn pass(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    /// A commit acknowledges them.
    pub(crate) fn begin(&self, ids: &[String]) {
        self.lock().unsure.extend(ids.iter().cloned());
    }

    /// It was answered.
    pub(crate) fn end(&self, ids: &[String]) {
        let mut entries = self.lock();
        for id in ids {
            entries.unsure.remove(id);
        }
    }

    /// Of entries that nobody has, those that are not done for certain.
    pub(super) fn astray(&self, ids: Vec<String>) -> Vec<String> {
        let entries = self.lock();
        ids.into_iter().filter(|id| entries.open.contains(id) && !entries.unsure.contains(id)).collect()
    }

    /// Whoever claims what is left does it.
    pub(super) fn close_all(&self) {
        let mut entries = self.lock();
        entries.open.clear();
        entries.unsure.clear();
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.lock().given.contains(id)
    }

    pub(super) fn ids(&self) -> BTreeSet<String> {
        self.lock().given.clone()
    }

    /// Those that are given out, and those that are open besides.
    pub(super) fn all(&self) -> (Vec<String>, Vec<String>) {
        let entries = self.lock();
        (entries.given.iter().cloned().collect(), entries.open.difference(&entries.given).cloned().collect())
    }

    pub(super) fn open(&self) -> BTreeSet<String> {
        self.lock().open.clone()
    }

    pub(crate) fn mark(&self) -> String {
        self.lock().mark.clone()
    }

    pub(super) fn reach(&self, id: Option<(u64, u64)>) {
        let mut entries = self.lock();
        // a group that another process has made may begin before it
        entries.reached = entries.reached.max(id);
    }

    pub(super) fn reached(&self) -> Option<(u64, u64)> {
        self.lock().reached
    }

    /// The newest entries that were read, in their order.
    pub(super) fn read(&self, entries: &[Entry]) {
        if let Some(newest) = entries.last() {
            self.lock().memory.read(newest);
        }
    }

    /// The stream of the group was looked at.
    pub(super) fn looked(&self, look: Option<Look>) {
        if let Some(look) = look {
            self.lock().memory.looked(look);
        }
    }

    /// What is known of the stream: its life, and more.
    pub(super) fn stream(&self) -> (String, Memory) {
        let entries = self.lock();
        (entries.life.clone(), entries.memory.clone())
    }

    pub(super) fn live(&self, life: String) {
        self.lock().life = life;
    }

    /// The stream is another one.
    pub(super) fn begin_anew(&self) {
        let mut entries = self.lock();
        (entries.reached, entries.memory) = (None, Memory::default());
    }

    /// Another group is in the place of the one before, and its stream does not have these any more. What was brought along
    /// and is not among those that are kept is others' there.
    pub(super) fn enter(&self, mark: String, brought: &[String], kept: &[String], deleted: &[String]) {
        self.regrouped.store(false, Ordering::Relaxed);
        let mut entries = self.lock();
        entries.mark = mark;
        let kept: BTreeSet<&String> = kept.iter().chain(deleted).collect();
        for id in brought.iter().filter(|id| !kept.contains(id)) {
            entries.open.remove(id);
        }
        for id in deleted {
            if entries.open.remove(id) && entries.given.contains(id) {
                entries.deleted.insert(id.clone());
            }
        }
    }

    /// Those of these that were deleted with their stream.
    pub(crate) fn deleted(&self, ids: &[String]) -> Vec<String> {
        let entries = self.lock();
        ids.iter().filter(|id| entries.deleted.contains(*id)).cloned().collect()
    }

    /// Whether some are in work that were deleted with their stream.
    pub(super) fn has_deleted(&self) -> bool {
        !self.lock().deleted.is_empty()
    }

    /// Whether a group with this mark has taken the place of the one that the entries are of.
    pub(super) fn is_another(&self, mark: &str) -> bool {
        !mark.is_empty() && self.lock().mark != mark
    }

    /// The source has to join the group anew.
    pub(crate) fn regroup(&self) {
        self.regrouped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_regrouped(&self) -> bool {
        self.regrouped.load(Ordering::Relaxed)
    }

    /// The consumer's name has gone to another incarnation.
    pub(crate) fn replace(&self, name: &str) {
        // what was read under an earlier name says nothing of this one
        if *self.lock().name == *name {
            self.replaced.store(true, Ordering::Relaxed);
        }
    }

    /// What was read under the last name is that of whoever has it.
    pub(super) fn rename(&self, name: &Arc<str>) {
        let mut entries = self.lock();
        entries.open.clear();
        entries.name = Arc::clone(name);
        self.replaced.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
