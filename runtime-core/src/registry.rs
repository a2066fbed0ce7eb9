//! What can be configured: components register themselves, the registry finds them by name.
//!
//! A component is a type that implements [`Kind`]; one line registers it:
//!
//! ```text
//! inventory::submit!(Entry::of::<RedisKey>());
//! ```
//!
//! From that one entry come the parser, the checks, the schema, the reference docs, `gaugefn components` and the
//! "did you mean" of a wrong name. Rust links a crate only where something names it: each binary and each test
//! target has to say `use sources as _;` once.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::claims::Claim;
use crate::config::reserved;
use crate::config::section::{self, Concern, Problem, Section};
use crate::config::settings::{ReloadOptions, StateOptions};
use crate::config::suggest;
use crate::contract::{DeadLetters, EntryFile, Executor, Fault, Fit, Loader, Sink, Source, StateStore};
use crate::main_thread::MainThread;

/// A boxed future that may hold on to what it was made with.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A part that a component can play.
pub trait Role: 'static {
    /// The word for it in messages and in the configuration: `source`.
    const NAME: &'static str;
    /// Options that every component of this role has, in the same table as its own; the engine acts on them.
    type Common: DeserializeOwned + JsonSchema + Default + Send + 'static;
}

/// For roles whose components have nothing in common.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct Nothing {}

impl Role for dyn Source {
    const NAME: &'static str = "source";
    type Common = Nothing;
}
impl Role for dyn Loader {
    const NAME: &'static str = "loader";
    type Common = ReloadOptions;
}
impl Role for dyn Executor {
    const NAME: &'static str = "executor";
    type Common = Nothing;
}
impl Role for dyn StateStore {
    const NAME: &'static str = "state";
    type Common = StateOptions;
}
impl Role for dyn DeadLetters {
    const NAME: &'static str = "dead_letters";
    type Common = Nothing;
}
impl Role for dyn Sink {
    const NAME: &'static str = "sink";
    type Common = Nothing;
}

/// One kind of component: its name, its options and how it is built.
pub trait Kind: 'static {
    /// `dyn Source`, `dyn Sink`, …
    type Role: Role + ?Sized;
    /// Its own table of the configuration. The schema is also the check for unknown and missing keys, so serde's
    /// `alias`, `flatten` and untagged enums are not for it.
    type Config: DeserializeOwned + JsonSchema + Send + 'static;
    /// The name after `use =`. The file, the docs page and the metric label have the same.
    const NAME: &'static str;
    /// One line for `gaugefn components`.
    const SUMMARY: &'static str;
    /// Options that INTERFACE reserves and that do not exist yet: refused, never ignored.
    const RESERVED: &'static [&'static str] = &[];
    /// Whether an executor of this kind runs a module, so that its functions need a loader.
    const NEEDS_MODULE: bool = true;
    /// Whether only one function of this kind can run inside a process.
    const ONE_PER_PROCESS: bool = false;
    /// Whether a source of this kind gives the newest value only, one at a time.
    const LATEST_VALUE: bool = false;
    /// Whether a source of this kind is a queue that loses nothing by itself: its failed events are tried again and go to
    /// the dead letters, unless said otherwise.
    const KEEPS_EVENTS: bool = false;
    /// Whether what a store of this kind keeps outlives the process.
    const DURABLE: bool = false;
    /// Whether an executor of this kind can hold a state for each value of `state.key`, and let go of those in memory
    /// that are not used for `state.ttl`.
    const KEYED_STATE: bool = true;

    /// What the types alone cannot see wrong: contradictions, empty names. Contacts nothing.
    fn review(_config: &Self::Config) -> Vec<Concern> {
        Vec::new()
    }

    /// The same of its options together with those that all components of its role have.
    fn review_beside(_config: &Self::Config, _common: &<Self::Role as Role>::Common) -> Vec<Concern> {
        Vec::new()
    }

    /// What it works with outside of the process, so that two functions, or two parts of one, are not given the same by
    /// mistake. Contacts nothing; what cannot be told is left out.
    fn claims(_config: &Self::Config, _common: &<Self::Role as Role>::Common, _around: &Around<'_>) -> Vec<Claim> {
        Vec::new()
    }

    /// Whether a loader of this kind is the one for a path for which none is named.
    fn takes(_path: &Path) -> Fit {
        Fit::None
    }

    /// The file that a loader of this kind would give to the executor, as far as it can be told without loading
    /// anything. None counts as source text.
    fn entry_file(_config: &Self::Config) -> Option<EntryFile> {
        None
    }

    /// Why an executor of this kind cannot run a file: what the file is, `a shared library`. None where it can.
    fn unfit(_file: &EntryFile) -> Option<&'static str> {
        None
    }

    /// Makes the component. Contacts nothing yet: that is for `check`, which the engine calls.
    fn build(config: Self::Config, site: &Site<'_>) -> impl Future<Output = Result<Box<Self::Role>, Fault>> + Send;
}

/// What a component may use of its surroundings.
pub struct Site<'a> {
    /// The function that it belongs to.
    pub function: &'a str,
    /// The tables that several components share, such as `[redis]`.
    pub shared: &'a [Section],
    /// The process's first thread, for what must run there.
    pub main_thread: MainThread,
    /// The process's standard output as it was before user code could write to it.
    pub stdout: Arc<std::fs::File>,
}

impl Site<'_> {
    /// The shared table of this name, typed; its defaults where the configuration has none.
    ///
    /// # Errors
    /// The first problem of the table. All of them were reported before anything was built.
    pub fn table<T: DeserializeOwned + JsonSchema + Default>(&self, name: &str) -> Result<T, Fault> {
        shared_table(self.shared, name).map_err(first)
    }
}

/// What is known of a component's surroundings before anything is built.
pub struct Around<'a> {
    /// The function that it belongs to.
    pub function: &'a str,
    /// The tables that several components share.
    pub shared: &'a [Section],
}

impl Around<'_> {
    /// The shared table of this name, typed; none where it has problems, which are told elsewhere.
    #[must_use]
    pub fn table<T: DeserializeOwned + JsonSchema + Default>(&self, name: &str) -> Option<T> {
        shared_table(self.shared, name).ok()
    }
}

fn shared_table<T: DeserializeOwned + JsonSchema + Default>(shared: &[Section], name: &str) -> Result<T, Vec<Problem>> {
    shared.iter().find(|section| section.path() == name).map_or_else(|| Ok(T::default()), |section| section.parse(&[]))
}

fn first(problems: Vec<Problem>) -> Fault {
    Fault::config(problems.first().map_or_else(|| "unreadable table".to_owned(), ToString::to_string))
}

/// Parses a component's table and builds it.
pub type Build<R> = for<'a> fn(&'a Section, &'a Site<'a>) -> BoxFuture<'a, Result<Box<R>, Fault>>;

/// The registration of one component: function pointers only.
pub struct Entry<R: ?Sized + 'static> {
    /// The name after `use =`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Options reserved for later versions.
    pub reserved: &'static [&'static str],
    /// Whether its functions need a loader.
    pub needs_module: bool,
    /// Whether only one function of this kind can run inside a process.
    pub one_per_process: bool,
    /// Whether a source gives the newest value only.
    pub latest_value: bool,
    /// Whether a source is a queue that loses nothing by itself.
    pub keeps_events: bool,
    /// Whether what a store keeps outlives the process.
    pub durable: bool,
    /// Whether an executor can hold a state for each key.
    pub keyed_state: bool,
    /// JSON Schema of its options.
    pub schema: fn() -> schemars::Schema,
    /// All problems of its table, without building anything.
    pub check: fn(&Section) -> Vec<Problem>,
    /// What it would work with outside of the process.
    pub claims: fn(&Section, &Around<'_>) -> Vec<Claim>,
    /// Whether a loader is the one for a path.
    pub takes: fn(&Path) -> Fit,
    /// The file that a loader would give to the executor.
    pub entry_file: fn(&Section) -> Option<EntryFile>,
    /// Why an executor cannot run a file.
    pub unfit: fn(&EntryFile) -> Option<&'static str>,
    /// Parses the table and builds the component.
    pub build: Build<R>,
}

impl<R: Role + ?Sized> Entry<R> {
    /// The entry of a kind.
    #[must_use]
    pub const fn of<K: Kind<Role = R>>() -> Self {
        Self {
            name: K::NAME,
            summary: K::SUMMARY,
            reserved: K::RESERVED,
            needs_module: K::NEEDS_MODULE,
            one_per_process: K::ONE_PER_PROCESS,
            latest_value: K::LATEST_VALUE,
            keeps_events: K::KEEPS_EVENTS,
            durable: K::DURABLE,
            keyed_state: K::KEYED_STATE,
            schema: schema::<K>,
            check: check::<K>,
            claims: claims::<K>,
            takes: K::takes,
            entry_file: |section| own::<K>(section).0.as_ref().and_then(K::entry_file),
            unfit: K::unfit,
            build: build::<K>,
        }
    }
}

fn schema<K: Kind>() -> schemars::Schema {
    section::schema_of::<K::Config>()
}

fn check<K: Kind>(section: &Section) -> Vec<Problem> {
    let (config, mut problems) = own::<K>(section);
    if let Some(config) = config {
        let mut concerns = K::review(&config);
        concerns.extend(K::review_beside(&config, &common::<K>(section)));
        let further = section.further(concerns, &problems);
        problems.extend(further);
    }
    problems
}

fn claims<K: Kind>(section: &Section, around: &Around<'_>) -> Vec<Claim> {
    own::<K>(section).0.map(|config| K::claims(&config, &common::<K>(section), around)).unwrap_or_default()
}

fn build<'a, K: Kind>(section: &'a Section, site: &'a Site<'a>) -> BoxFuture<'a, Result<Box<K::Role>, Fault>> {
    Box::pin(async move {
        match own::<K>(section) {
            (Some(config), problems) if problems.is_empty() => K::build(config, site).await,
            (_, problems) => Err(first(problems)),
        }
    })
}

/// The options that it has in common with all components of its role; their problems are told by whoever acts on them.
fn common<K: Kind>(section: &Section) -> <K::Role as Role>::Common {
    section.split::<<K::Role as Role>::Common>().0.read(&[]).0.unwrap_or_default()
}

/// The component's own options, beside those that it shares with all of its role.
fn own<K: Kind>(section: &Section) -> (Option<K::Config>, Vec<Problem>) {
    type Common<K> = <<K as Kind>::Role as Role>::Common;
    let common = section::property_names(&section::schema_of::<Common<K>>());
    section.split::<Common<K>>().1.read_beside(K::RESERVED, &common)
}

inventory::collect!(Entry<dyn Source>);
inventory::collect!(Entry<dyn Loader>);
inventory::collect!(Entry<dyn Executor>);
inventory::collect!(Entry<dyn StateStore>);
inventory::collect!(Entry<dyn Sink>);
inventory::collect!(Entry<dyn DeadLetters>);
inventory::collect!(Shared);

/// The registration of a table that several components share: `[redis]`.
pub struct Shared {
    /// Its key at the top of the configuration.
    pub name: &'static str,
    /// JSON Schema of its keys.
    pub schema: fn() -> schemars::Schema,
    /// All problems of the table.
    pub check: fn(&Section) -> Vec<Problem>,
}

impl Shared {
    /// A table with these options.
    #[must_use]
    pub const fn of<T: DeserializeOwned + JsonSchema + 'static>(name: &'static str) -> Self {
        Self {
            name,
            schema: section::schema_of::<T>,
            check: |section| section.parse::<T>(&[]).err().unwrap_or_default(),
        }
    }

    /// All shared tables, by name.
    #[must_use]
    pub fn all() -> Vec<&'static Self> {
        let mut all: Vec<_> = inventory::iter::<Self>.into_iter().collect();
        all.sort_by_key(|shared| shared.name);
        all
    }
}

/// All components of one role.
pub struct Registry<R: Role + ?Sized> {
    entries: Vec<&'static Entry<R>>,
}

impl<R: Role + ?Sized> Registry<R>
where
    Entry<R>: inventory::Collect,
{
    /// What is linked into this binary, sorted by name (the linker's order means nothing).
    ///
    /// # Errors
    /// Two components have one name.
    pub fn collect() -> Result<Self, Fault> {
        let mut entries: Vec<_> = inventory::iter::<Entry<R>>.into_iter().collect();
        entries.sort_by_key(|entry| entry.name);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Fault::internal(format!("two components are registered as {} '{}'", R::NAME, pair[0].name)));
        }
        Ok(Self { entries })
    }

    /// All entries, sorted by name.
    #[must_use]
    pub fn entries(&self) -> &[&'static Entry<R>] {
        &self.entries
    }

    /// The entry of this name.
    ///
    /// # Errors
    /// A sentence that names what there is, or that says that this one is not available yet.
    pub fn get(&self, name: &str) -> Result<&'static Entry<R>, String> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.name == name) {
            return Ok(entry);
        }
        if reserved::is_component(R::NAME, name) {
            return Err(format!("{} '{name}' is not available in this version", R::NAME));
        }
        let names: Vec<_> = self.entries.iter().map(|entry| entry.name).collect();
        Err(match suggest::nearest(name, &names) {
            Some(near) => format!("unknown {} '{name}', did you mean '{near}'?", R::NAME),
            None => format!("unknown {} '{name}', available are {}", R::NAME, names.join(", ")),
        })
    }
}
