//! The right to be the one process of several, for a time.
//!
//! A hash whose fields are `holder` (an incarnation), `name` (its name, for people), `until` (by the server's clock, in
//! milliseconds: those of the processes need not agree) and `f`, what the last commit under the lease was made of. The
//! key itself never expires, as `f` must outlive whoever wrote it. Nobody takes a lease whose time is not over, and a
//! process that has lost one without noticing is refused by its [`Fence`] in the commit. What it does elsewhere it does
//! at most until its time is over, by a clock of its own that it started before it asked.
//!
//! A lease is as good as the server's memory: a replica that is promoted without having heard of the last holder gives
//! it to another one, and the fence is then what keeps two from committing.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use crate::commit::Fence;
use crate::fault::LinkError;
use crate::link::Link;

static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease/hold.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease/release.lua")));

/// A lease, and who would have it.
#[derive(Debug, Clone)]
pub struct Lease {
    link: Link,
    key: String,
    holder: String,
    name: String,
    term: Duration,
}

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// This holder, from now on for the whole term.
    Mine {
        /// What the last commit under it was made of, whoever made it.
        fingerprint: Option<Vec<u8>>,
        /// Whether it had it already: nobody else can have had it since.
        kept: bool,
    },
    /// Somebody else.
    Other {
        /// Its name.
        name: String,
        /// How long, unless it asks again.
        left: Duration,
    },
}

impl Lease {
    /// Contacts nothing. `holder` differs between any two processes ([`incarnation`](crate::incarnation())), `name` is
    /// for people.
    #[must_use]
    pub fn new(link: Link, key: String, holder: String, name: String, term: Duration) -> Self {
        Self { link, key, holder, name, term }
    }

    /// The hash.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How long it is held without being asked for again.
    #[must_use]
    pub const fn term(&self) -> Duration {
        self.term
    }

    /// Gets it, where nobody has it or its time is over, or keeps it.
    ///
    /// # Errors
    /// As for [`Link::script`].
    pub async fn hold(&self) -> Result<Hold, LinkError> {
        let mut call = HOLD.key(&self.key);
        call.arg(&self.holder).arg(&self.name).arg(u64::try_from(self.term.as_millis()).unwrap_or(u64::MAX).max(1));
        let (mine, text, number): (bool, Option<Vec<u8>>, u64) = self.link.script(&call, "HGET", &self.key).await?;
        Ok(if mine {
            Hold::Mine { fingerprint: text, kept: number == 1 }
        } else {
            let name = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
            Hold::Other { name, left: Duration::from_millis(number) }
        })
    }

    /// Lets it go; whether this holder had it.
    ///
    /// # Errors
    /// As for [`Link::script`].
    pub async fn release(&self) -> Result<bool, LinkError> {
        self.link.script(RELEASE.key(&self.key).arg(&self.holder), "HGET", &self.key).await
    }

    /// What makes a commit refuse where somebody else has it.
    #[must_use]
    pub fn fence(&self, fingerprint: Option<Vec<u8>>) -> Fence {
        Fence { key: self.key.clone(), holder: self.holder.clone(), fingerprint }
    }
}
