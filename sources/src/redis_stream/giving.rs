//! Which entries are given next, and as what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redis_link::LinkError;
use redis_link::group::{Entry, Pending, is_gone};
use runtime_core::Fault;
use runtime_core::contract::{Batch, Event, Pull, Receipt};
use tokio::time::Instant;

use super::receipt::Acknowledge;
use super::{CLAIM_AT_LEAST, LONGEST_WAIT, RedisStream, entry, fault, number};

/// So many deliveries without an end are no coincidence. Restarts of a whole deployment, one after the other, deliver an
/// entry two or three times.
const SUSPECT: u64 = 5;

/// A server that closes connections more often than that has a reason that one wants to know.
const OFTEN: Duration = Duration::from_secs(1);

/// Until everything in flight is done, most calls taking less.
const MOMENT: Duration = Duration::from_millis(2);

impl RedisStream {
    /// Own pending entries, then abandoned ones, then new ones.
    pub(super) async fn pull(&mut self, count: usize) -> Result<Pull, LinkError> {
        if self.alone.as_ref().is_some_and(|id| self.held.has(id)) {
            return Ok(Pull::Again(MOMENT));
        }
        self.alone = None;
        if self.regrouped && self.reading.is_none() {
            (self.own, self.regrouped) = (Some("-".to_owned()), false);
        }
        let in_the_way = self.later && self.held.has_deleted();
        if self.later && !in_the_way && self.reading.is_none() {
            (self.own, self.later) = (Some("-".to_owned()), false);
        }
        loop {
            while self.own.is_some() {
                if let Some(pull) = self.pull_own(count).await? {
                    return Ok(pull);
                }
                if self.own.is_none() {
                    // what was cut off had nothing to bring
                    self.cuts = 0;
                }
            }
            if self.reading.is_some() || Instant::now() < self.claim_at || !self.claim(count).await? {
                break;
            }
        }
        let Some(reader) = &self.reader else {
            return Ok(Pull::Again(Duration::ZERO));
        };
        let until_claim = self.claim_at.saturating_duration_since(Instant::now());
        let longest = if in_the_way { MOMENT * 50 } else { LONGEST_WAIT };
        let wait = if self.probing { Duration::ZERO } else { until_claim.min(longest) };
        let reading = self.reading.get_or_insert_with(|| Box::pin(self.member.read(reader, count, wait)));
        let read = reading.as_mut().await;
        self.reading = None;
        let mut entries = read?;
        self.held.reach(entries.last().and_then(|entry| number(&entry.id)));
        self.held.read(&entries);
        // a group that was set back gives them once more, and they are in work; so are those of a stream that is no more
        let before = entries.len();
        entries.retain(|entry| !self.held.has(&entry.id));
        self.later |= entries.len() < before;
        let batch = self.batch(entries, &BTreeMap::new()).await?;
        Ok(batch.map_or(Pull::Again(Duration::ZERO), Pull::Batch))
    }

    /// The next of this consumer's pending entries that nobody here works on: up to the first suspect, or that one. None
    /// where the ones looked at are none.
    async fn pull_own(&mut self, count: usize) -> Result<Option<Pull>, LinkError> {
        let Some(start) = self.own.clone() else {
            return Ok(None);
        };
        let held = self.held.ids();
        let most = count + held.len();
        let page = self.member.own(&self.link, &start, most).await?;
        let complete = page.len() < most;
        let last = page.last().map(|pending| format!("({}", pending.id));
        let mut left: Vec<Pending> = page.into_iter().filter(|pending| !held.contains(&pending.id)).collect();
        self.held.expect(left.iter().map(|pending| pending.id.clone()));
        let suspect = left.iter().position(|pending| self.deliveries(pending) >= SUSPECT);
        if suspect == Some(0) && !held.is_empty() {
            return Ok(Some(Pull::Again(MOMENT)));
        }
        let room = suspect.map_or(count, |at| at.clamp(1, count));
        let cut = left.len() > room;
        left.truncate(room);
        let next = if cut { left.last().map(|pending| format!("({}", pending.id)) } else { last };
        let mut found = Vec::new();
        if !left.is_empty() {
            let (inherits, claimed) = (self.inherits, &self.claimed);
            let raise = |pending: &Pending| raises(inherits, claimed, pending);
            let again = self.member.again(&self.fetching, &left, raise).await;
            found = again.map_err(|error| match &left[..] {
                [one] if self.cuts > 0 => {
                    let question = format_args!("XCLAIM of entry {} of stream '{}'", one.id, self.member.stream);
                    error.cut_at(self.fetching.target(), &question)
                }
                _ => error,
            })?;
        }
        let deliveries = left.iter().map(|pending| (pending.id.clone(), self.deliveries(pending))).collect();
        self.own = next.filter(|_| cut || !complete);
        if self.own.is_none() {
            self.inherits = false;
            self.claimed.clear();
        }
        let batch = self.batch(found, &deliveries).await?;
        if let (Some(0), Some(batch)) = (suspect, &batch) {
            let Event { id, deliveries, .. } = &batch.events[0];
            tracing::warn!(function = %self.function, event = %id, "entry {id} was delivered {deliveries} times and never done: it is handled alone");
            self.alone = Some(id.clone());
        }
        Ok(batch.map(Pull::Batch))
    }

    /// How often a pending entry will have been delivered when it is given.
    fn deliveries(&self, pending: &Pending) -> u64 {
        pending.deliveries + u64::from(raises(self.inherits, &self.claimed, pending))
    }

    /// Takes over abandoned entries; whether there were any, which are this consumer's own then.
    async fn claim(&mut self, count: usize) -> Result<bool, LinkError> {
        let (cursor, ids, deleted) = self.member.claim(&self.link, self.claim_idle, &self.cursor, count).await?;
        self.cursor = cursor;
        if self.cursor == "0-0" {
            self.claim_at = Instant::now() + (self.claim_idle / 2).min(CLAIM_AT_LEAST);
        }
        self.trimmed(deleted);
        // its own, where a call took so long that the heartbeat was late
        let held = self.held.ids();
        let before = self.claimed.len();
        let ids: Vec<String> = ids.into_iter().filter(|id| !held.contains(id)).collect();
        self.held.expect(ids.iter().cloned());
        self.claimed.extend(ids);
        let claimed = self.claimed.len() - before;
        if claimed > 0 {
            metrics::counter!("gaugefn_stream_claimed_total", "function" => self.function.clone())
                .increment(claimed as u64);
            self.own = Some("-".to_owned());
        }
        Ok(claimed > 0)
    }

    /// Entries as events, `deliveries` being how often those were delivered that are not new. Entries that were deleted
    /// while they were pending have nothing left to deliver: they are acknowledged.
    async fn batch(
        &mut self,
        entries: Vec<Entry>,
        deliveries: &BTreeMap<String, u64>,
    ) -> Result<Option<Batch>, LinkError> {
        let (entries, deleted): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.fields.is_some());
        if !deleted.is_empty() {
            let ids: Vec<String> = deleted.into_iter().map(|entry| entry.id).collect();
            self.member.acknowledge(&self.link, &ids).await?;
            self.held.close(&ids);
            self.trimmed(ids.len());
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let mut events = Vec::with_capacity(entries.len());
        for Entry { id, fields } in entries {
            let deliveries = deliveries.get(&id).map_or(1, |count| u32::try_from(*count).unwrap_or(u32::MAX).max(1));
            let event = Event { deliveries, ..entry::event(id, fields.unwrap_or_default(), self.field.as_deref()) };
            if let Some(flaw) = &event.flaw
                && !std::mem::replace(&mut self.told, true)
            {
                let (id, stream) = (&event.id, &self.member.stream);
                tracing::warn!(function = %self.function, "entry {id} of stream '{stream}' fails: {flaw}; check the option 'field'");
            }
            events.push(event);
        }
        let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
        self.held.add(&ids);
        let receipt = Acknowledge::new(self.member.clone(), self.link.clone(), Arc::clone(&self.held), ids);
        Ok(Some(Batch { events, receipt: Receipt::new(receipt), skipped: 0 }))
    }

    /// After an answer that did not come in time. One may be due to a server that hangs; of a second one, on a connection
    /// that was made in between, the entries are the likelier cause.
    fn ask_for_less(&mut self, asked: usize) {
        let less = self.portion.halve(asked);
        let again = std::mem::replace(&mut self.late, true);
        if again
            && let Some(less) = less
            && !std::mem::replace(&mut self.told_less, true)
        {
            let stream = &self.member.stream;
            tracing::warn!(function = %self.function, "{asked} entries of stream '{stream}' do not come in time: {less} are read at once from now on, and more again when that goes well");
        }
    }

    /// After a connection that was closed before the answer came; whether that is nothing to speak of. One may be due to
    /// anything. Of a further one, with entries on the way, their size is the likelier cause.
    fn cut_off(&mut self, asked: usize) -> bool {
        let now = Instant::now();
        let last = self.cut_at.replace(now);
        self.cuts = self.cuts.saturating_add(1);
        if self.cuts == 1 {
            return last.is_none_or(|last| now - last > OFTEN);
        }
        let Some(less) = self.portion.halve(asked) else { return false };
        if !std::mem::replace(&mut self.told_less, true) {
            let stream = &self.member.stream;
            tracing::warn!(function = %self.function, "the server closes the connection at {asked} entries of stream '{stream}': fewer are read at once from now on, and more again when that goes well; see its client-output-buffer-limit");
        }
        less > 0
    }

    /// What becomes of a pull that has failed.
    pub(super) fn failed(&mut self, error: &LinkError, asked: usize) -> Result<Pull, Fault> {
        self.reading = None;
        if error.is_refusal() && !is_gone(error) {
            // the connection is as good as before
            self.probing = true;
            return Err(fault(error));
        }
        self.reader = None;
        if error.is_late() {
            self.ask_for_less(asked);
        }
        let first = is_gone(error) && !std::mem::replace(&mut self.gone, true);
        if first || error.is_cut() && self.cut_off(asked) {
            return Ok(Pull::Again(Duration::ZERO));
        }
        self.probing = true;
        Err(fault(error))
    }

    fn trimmed(&self, count: usize) {
        if count > 0 {
            metrics::counter!("gaugefn_stream_trimmed_total", "function" => self.function.clone())
                .increment(count as u64);
            let stream = &self.member.stream;
            tracing::warn!(function = %self.function, "{count} entries of stream '{stream}' were deleted before they were done; let the stream keep more of them");
        }
    }
}

/// Whether a pending entry counts as delivered once more when it is given: it was a predecessor's or another consumer's.
/// One whose delivery was lost with a connection, or that nobody here has begun with, was not.
fn raises(inherits: bool, claimed: &BTreeSet<String>, pending: &Pending) -> bool {
    inherits || claimed.contains(&pending.id)
}
