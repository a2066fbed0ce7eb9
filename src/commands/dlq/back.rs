//! Letters that go back into their source, for the running function to take.

use runtime_core::config::Settings;
use runtime_core::config::settings::FunctionSettings;
use runtime_core::contract::{DeadLetters, Fault, Letter, Source};

use super::{NOT_ALL, Wanted, counted, refused, site};
use crate::args::DlqChoice;
use crate::commands::{Context, say};

/// The source, where one step can move a letter there.
pub(super) struct Way {
    source: Box<dyn Source>,
    name: String,
}

impl Way {
    /// Where the source takes events back, and shares a place with the letters.
    pub(super) async fn find(
        context: &Context,
        settings: &Settings,
        function: &FunctionSettings,
        place: &dyn DeadLetters,
    ) -> Result<Option<Self>, Fault> {
        let choice = &function.source;
        let source = (choice.entry.build)(&choice.section, &site(context, settings, function)).await?;
        // of no events at all: whether it would take any
        if source.domain().is_none() || source.domain() != place.domain() || source.feed(&[])?.is_none() {
            return Ok(None);
        }
        let keys = [source.keys(), place.keys()].concat();
        if let Some(transaction) = source.transaction()
            && let Some(obstacle) = transaction.obstacle(&keys).await?
        {
            say(&format!("letters cannot go back to their source in one step, so this process runs them: {obstacle}"));
            return Ok(None);
        }
        let reads = source.facts().input_key.unwrap_or_default();
        Ok(Some(Self { name: format!("{} {reads}", choice.entry.name).trim_end().to_owned(), source }))
    }

    /// Feeds the letters back; the exit code.
    pub(super) async fn feed(
        mut self,
        context: &Context,
        place: &dyn DeadLetters,
        which: &DlqChoice,
    ) -> Result<u8, Fault> {
        let mut wanted = Wanted::new(place, which).await?;
        let (mut fed, mut code, mut told) = (0, 0, false);
        while let Some(page) = wanted.next(place).await? {
            if !std::mem::replace(&mut told, true)
                && let Some(others) = self.source.also_fed().await?
            {
                say(&format!(
                    "warning: each becomes a new entry, which goes to {others} as well; with --here this process runs them itself"
                ));
            }
            let mut parts = Vec::with_capacity(page.len());
            for filed in page {
                match self.part(&filed.letter) {
                    Ok(part) => parts.push((filed.id, part)),
                    Err(fault) => code = refused(&filed.id, &fault).max(code),
                }
            }
            let given = parts.len() as u64;
            let taken = place.feed_back(parts).await?;
            if taken < given {
                say(&format!("{} were removed meanwhile", counted(given - taken)));
                code = code.max(NOT_ALL);
            }
            fed += taken;
        }
        context.print(&format!("fed back {} to {}\n", counted(fed), self.name));
        Ok(code.max(wanted.code()))
    }

    fn part(&self, letter: &Letter) -> Result<Box<dyn std::any::Any + Send>, Fault> {
        let parts = self.source.feed(std::slice::from_ref(letter))?;
        let part = parts.and_then(|mut parts| parts.pop());
        part.ok_or_else(|| Fault::internal(format!("source '{}' takes no events back", self.name)))
    }
}
