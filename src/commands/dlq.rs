//! `gaugefn dlq`: the events that failed for good.

use std::collections::{HashSet, VecDeque};

use runtime_core::Site;
use runtime_core::config::settings::{FunctionSettings, LogOptions, Then};
use runtime_core::config::{Settings, suggest};
use runtime_core::contract::{Blame, DeadLetters, Fault, Filed};

use self::text::{printed, rows};
use super::{Context, refuse, say};
use crate::args::{DlqAction, DlqArgs, DlqChoice, Format};
use crate::log;

mod again;
mod back;
mod text;

/// Some of the letters are not there, or failed again.
const NOT_ALL: u8 = 1;

/// Letters that are read at once, and bytes, about: each may be as large as an event.
const PAGE: usize = 100;
const PAGE_BYTES: usize = 8 << 20;

pub(super) async fn dlq(context: &Context, action: &DlqAction) -> u8 {
    let (DlqAction::Ls { of, .. }
    | DlqAction::Show { of, .. }
    | DlqAction::Replay { of, .. }
    | DlqAction::Purge { of, .. }) = action;
    let (layered, settings) = match context.configured(&of.config) {
        Ok(configured) => configured,
        Err(code) => return code,
    };
    for warning in &layered.warnings {
        say(&format!("warning: {warning}"));
    }
    // what a replay does is as worth reading as under `run`
    let level = match action {
        DlqAction::Replay { .. } => settings.log.level.clone(),
        _ => "warn".to_owned(),
    };
    log::start(&LogOptions { level, ..settings.log.clone() });
    match act(context, &settings, of, action).await {
        Ok(code) => code,
        Err(fault) => refuse(&fault),
    }
}

async fn act(context: &Context, settings: &Settings, of: &DlqArgs, action: &DlqAction) -> Result<u8, Fault> {
    let function = chosen(settings, &of.function)?;
    let place = place(context, settings, function).await?;
    match action {
        DlqAction::Ls { which, format, .. } => ls(context, &*place, which, *format).await,
        DlqAction::Show { which, .. } => show(context, &*place, which).await,
        DlqAction::Purge { which, .. } => purge(&*place, which).await,
        DlqAction::Replay { which, here, .. } => {
            let way = if *here { None } else { back::Way::find(context, settings, function, &*place).await? };
            match way {
                Some(way) => way.feed(context, &*place, which).await,
                None => again::run(context, settings, function, place, which).await,
            }
        }
    }
}

/// The function of this name.
fn chosen<'a>(settings: &'a Settings, name: &str) -> Result<&'a FunctionSettings, Fault> {
    settings.functions.iter().find(|function| function.name == name).ok_or_else(|| {
        let known: Vec<_> = settings.functions.iter().map(|function| function.name.as_str()).collect();
        Fault::config(match suggest::nearest(name, &known) {
            Some(near) => format!("unknown function '{name}', did you mean '{near}'?"),
            None => format!("unknown function '{name}', there is {}", known.join(", ")),
        })
    })
}

/// Where its letters are.
async fn place(
    context: &Context,
    settings: &Settings,
    function: &FunctionSettings,
) -> Result<Box<dyn DeadLetters>, Fault> {
    let Some(choice) = &function.dead_letters else {
        let then = if function.errors.then == Then::Stop { "stop" } else { "skip" };
        let name = &function.name;
        return Err(Fault::config(format!(
            "function '{name}' keeps no failed events, as its errors.then is '{then}'; set functions.{name}.errors.then \
             to 'dead_letter'"
        )));
    };
    (choice.entry.build)(&choice.section, &site(context, settings, function)).await
}

fn site<'a>(context: &Context, settings: &'a Settings, function: &'a FunctionSettings) -> Site<'a> {
    Site {
        function: &function.name,
        shared: &settings.shared,
        main_thread: context.main_thread.clone(),
        stdout: std::sync::Arc::clone(&context.stdout),
    }
}

async fn ls(context: &Context, place: &dyn DeadLetters, which: &DlqChoice, format: Format) -> Result<u8, Fault> {
    let mut wanted = Wanted::shown(which);
    let mut table = Vec::new();
    while let Some(page) = wanted.next(place).await? {
        match format {
            Format::Json => {
                for filed in &page {
                    let line = stores::dead_letters::as_json(filed)
                        .map_err(|error| Fault::internal("a letter cannot be shown").caused_by(error))?;
                    context.print(&format!("{line}\n"));
                }
            }
            Format::Table => table.extend(page.iter().map(text::row)),
        }
    }
    if !table.is_empty() {
        return Ok(wanted.code().max(context.print(&rows(&table))));
    }
    if matches!(format, Format::Table) && which.ids.is_empty() {
        none(place);
    }
    Ok(wanted.code())
}

async fn show(context: &Context, place: &dyn DeadLetters, which: &DlqChoice) -> Result<u8, Fault> {
    let mut wanted = Wanted::shown(which);
    let mut first = true;
    while let Some(page) = wanted.next(place).await? {
        for filed in &page {
            let gap = if std::mem::take(&mut first) { "" } else { "\n" };
            context.print(&format!("{gap}{}", printed(filed)));
        }
    }
    if first && which.ids.is_empty() {
        none(place);
    }
    Ok(wanted.code())
}

/// On standard error: nobody's program reads it, and whoever forgot the ids has to see it.
async fn purge(place: &dyn DeadLetters, which: &DlqChoice) -> Result<u8, Fault> {
    let mut wanted = Wanted::new(place, which).await?;
    let mut removed = 0;
    while let Some(page) = wanted.next(place).await? {
        let ids: Vec<_> = page.into_iter().map(|filed| filed.id).collect();
        removed += place.remove(&ids).await?;
    }
    say(&format!("removed {} from {}", counted(removed), place.describe()));
    Ok(wanted.code())
}

fn none(place: &dyn DeadLetters) {
    say(&format!("no dead letters in {}", place.describe()));
}

/// Says that a letter is not there; the exit code.
fn absent(id: &str, place: &dyn DeadLetters) -> u8 {
    say(&format!("no letter '{id}' in {}", place.describe()));
    NOT_ALL
}

/// `1 letter`, `2 letters`.
fn counted(count: u64) -> String {
    if count == 1 { "1 letter".to_owned() } else { format!("{count} letters") }
}

/// All letters, page by page. Those that come while they are read come last.
#[derive(Default)]
struct Pages {
    last: Option<String>,
}

impl Pages {
    async fn next(&mut self, place: &dyn DeadLetters) -> Result<Option<Vec<Filed>>, Fault> {
        let page = place.list(self.last.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.last = Some(last.id.clone());
        Ok(Some(page))
    }
}

/// The letters that were asked for, page by page; those that are not there are said.
struct Wanted {
    /// No ids were named: every letter.
    all: bool,
    /// All that were there when it began: one that fails again becomes a new letter, and would be tried for ever.
    there: Option<HashSet<String>>,
    pages: Pages,
    /// Those that were named and not looked for yet.
    named: VecDeque<String>,
    /// How many of these are not there.
    absent: u64,
}

impl Wanted {
    /// To be looked at: nothing comes while they are, or it may be shown, too.
    fn shown(which: &DlqChoice) -> Self {
        let named: VecDeque<_> = which.ids.iter().cloned().collect();
        Self { all: named.is_empty(), there: None, pages: Pages::default(), named, absent: 0 }
    }

    async fn new(place: &dyn DeadLetters, which: &DlqChoice) -> Result<Self, Fault> {
        let mut wanted = Self::shown(which);
        if wanted.all {
            let mut there = HashSet::new();
            let mut pages = Pages::default();
            while let Some(page) = pages.next(place).await? {
                there.extend(page.into_iter().map(|filed| filed.id));
            }
            wanted.there = Some(there);
        }
        Ok(wanted)
    }

    /// How many letters that is, those that are not there included.
    fn len(&self) -> u64 {
        self.there.as_ref().map_or(self.named.len(), HashSet::len) as u64
    }

    async fn next(&mut self, place: &dyn DeadLetters) -> Result<Option<Vec<Filed>>, Fault> {
        if self.all {
            // newer ones come last
            let mut page = self.pages.next(place).await?.unwrap_or_default();
            if let Some(there) = &self.there {
                page.retain(|filed| there.contains(&filed.id));
            }
            return Ok(Some(page).filter(|page| !page.is_empty()));
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        while page.len() < PAGE
            && bytes < PAGE_BYTES
            && let Some(id) = self.named.front()
        {
            match place.get(id).await? {
                Some(filed) => {
                    bytes += filed.letter.payload.len() + filed.letter.original.as_ref().map_or(0, String::len);
                    page.push(filed);
                }
                None => {
                    absent(id, place);
                    self.absent += 1;
                }
            }
            self.named.pop_front();
        }
        Ok(Some(page).filter(|page| !page.is_empty()))
    }

    const fn code(&self) -> u8 {
        if self.absent == 0 { 0 } else { NOT_ALL }
    }
}

/// A place that is away is no reason to wait: somebody sits there.
fn refused(place: &str, fault: &Fault) -> u8 {
    say(&format!("{place}: {}", fault.chain()));
    match fault.blame() {
        Blame::Event => NOT_ALL,
        blame => blame.exit_code(),
    }
}
