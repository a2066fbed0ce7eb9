//! One small component for each role, and a shared table.

use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Concern;
use crate::contract::{
    Brief, Delivery, Executor, Facts, Fault, Function, Loader, Module, Pull, Returned, Revision, Sink, Source,
    StateStore,
};
use crate::options::Span;
use crate::registry::{Entry, Kind, Shared, Site};
use crate::testkit::{Recorder, ScriptedFunction, discard_state};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(dead_code)]
struct NoOptions {}

/// A source that is exhausted.
struct Ticker;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct TickerOptions {
    every: Span,
    hosts: Vec<String>,
}

impl Default for TickerOptions {
    fn default() -> Self {
        Self { every: Span::seconds(1), hosts: Vec::new() }
    }
}

#[async_trait]
impl Source for Ticker {
    fn delivery(&self) -> Delivery {
        Delivery::Latest
    }

    async fn next_batch(&mut self, _: usize) -> Result<Pull, Fault> {
        Ok(Pull::Exhausted)
    }

    fn facts(&self) -> Facts {
        Facts { input_key: Some("ticks".to_owned()), ..Facts::default() }
    }
}

/// A source that could only ever give the newest value.
struct Newest;

impl Kind for Newest {
    type Role = dyn Source;
    type Config = NoOptions;
    const NAME: &'static str = "newest";
    const SUMMARY: &'static str = "nothing, at once";
    const LATEST_VALUE: bool = true;

    async fn build(_config: NoOptions, _site: &Site<'_>) -> Result<Box<dyn Source>, Fault> {
        Ok(Box::new(Ticker))
    }
}

inventory::submit!(Entry::of::<Newest>());

impl Kind for Ticker {
    type Role = dyn Source;
    type Config = TickerOptions;
    const NAME: &'static str = "ticker";
    const SUMMARY: &'static str = "nothing, at once";
    const RESERVED: &'static [&'static str] = &["lease"];

    fn review(config: &Self::Config) -> Vec<Concern> {
        let never = config.every.0.is_zero().then(|| Concern::new("every", "'0s' is no period; the least is 1ms"));
        never.into_iter().collect()
    }

    async fn build(config: Self::Config, _: &Site<'_>) -> Result<Box<Self::Role>, Fault> {
        assert!(config.hosts.len() < 10, "a test has few");
        Ok(Box::new(Self))
    }
}

inventory::submit!(Entry::of::<Ticker>());

/// A loader of a file that nobody looks at.
struct Text(PathBuf);

#[derive(Debug, Deserialize, JsonSchema)]
struct TextOptions {
    path: PathBuf,
}

#[async_trait]
impl Loader for Text {
    async fn revision(&self) -> Result<Revision, Fault> {
        Ok(Revision::new("0123456789abcdef"))
    }

    async fn load(&self, handler: &str) -> Result<Module, Fault> {
        if handler == "missing" {
            return Err(Fault::function("no function 'missing'"));
        }
        Ok(Module {
            root: "/".into(),
            entry: self.0.clone(),
            revision: self.revision().await?,
            modified: SystemTime::UNIX_EPOCH,
            keep: None,
        })
    }

    fn describe(&self) -> String {
        self.0.display().to_string()
    }
}

impl Kind for Text {
    type Role = dyn Loader;
    type Config = TextOptions;
    const NAME: &'static str = "text";
    const SUMMARY: &'static str = "a file";

    async fn build(config: Self::Config, _: &Site<'_>) -> Result<Box<Self::Role>, Fault> {
        Ok(Box::new(Self(config.path)))
    }
}

inventory::submit!(Entry::of::<Text>());

/// Functions that answer with what is known of them.
struct Python;

/// The same without a module.
struct Bare;

fn telling(module: Option<&Module>, brief: Brief) -> Box<dyn Function> {
    let entry = module.map(|module| module.entry.display().to_string());
    let text = format!("{} {} {entry:?} {:?}", brief.function, brief.handler, brief.facts.input_key);
    Box::new(ScriptedFunction::new(move |_, _| Returned::Output(text.clone().into())))
}

#[async_trait]
impl Executor for Python {
    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault> {
        Ok(telling(module.as_ref(), brief))
    }
}

#[async_trait]
impl Executor for Bare {
    async fn prepare(&self, module: Option<Module>, brief: Brief) -> Result<Box<dyn Function>, Fault> {
        Ok(telling(module.as_ref(), brief))
    }
}

impl Kind for Python {
    type Role = dyn Executor;
    type Config = NoOptions;
    const NAME: &'static str = "python";
    const SUMMARY: &'static str = "one in a process";
    const ONE_PER_PROCESS: bool = true;

    async fn build(_: Self::Config, _: &Site<'_>) -> Result<Box<Self::Role>, Fault> {
        Ok(Box::new(Self))
    }
}

impl Kind for Bare {
    type Role = dyn Executor;
    type Config = NoOptions;
    const NAME: &'static str = "bare";
    const SUMMARY: &'static str = "needs no code";
    const NEEDS_MODULE: bool = false;

    async fn build(_: Self::Config, _: &Site<'_>) -> Result<Box<Self::Role>, Fault> {
        Ok(Box::new(Self))
    }
}

inventory::submit!(Entry::of::<Python>());
inventory::submit!(Entry::of::<Bare>());

struct Memory;

impl Kind for Memory {
    type Role = dyn StateStore;
    type Config = NoOptions;
    const NAME: &'static str = "memory";
    const SUMMARY: &'static str = "nothing is kept";
    const RESERVED: &'static [&'static str] = &["ttl", "max_bytes"];

    async fn build(_: Self::Config, _: &Site<'_>) -> Result<Box<Self::Role>, Fault> {
        Ok(discard_state())
    }
}

inventory::submit!(Entry::of::<Memory>());

struct Paper;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(dead_code)]
struct PaperOptions {
    /// How much of it.
    sheets: Option<u32>,
}

impl Kind for Paper {
    type Role = dyn Sink;
    type Config = PaperOptions;
    const NAME: &'static str = "paper";
    const SUMMARY: &'static str = "patient";

    async fn build(_: Self::Config, _: &Site<'_>) -> Result<Box<Self::Role>, Fault> {
        Ok(Box::new(Recorder::default()))
    }
}

inventory::submit!(Entry::of::<Paper>());

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(dead_code)]
struct LinkOptions {
    url: String,
    password: Option<String>,
    retries: u8,
}

inventory::submit!(Shared::of::<LinkOptions>("link"));
