//! A loader and an executor that go together: where no executor is named the loader's file decides, and a pair that
//! cannot work is refused, whoever named it.

use std::path::Path;

use super::reader::{PYTHON, Reader};
use super::section::{Section, property_names};
use super::settings::Choice;
use crate::contract::{EntryFile, Executor, Fit, Loader};
use crate::registry::{Entry, Registry};

/// The executor for what the loader of this table gives, where none is named. Nothing is loaded.
fn implied(loader: Option<&Choice<dyn Loader>>) -> &'static str {
    let file = loader.and_then(|loader| (loader.entry.entry_file)(&loader.section));
    file.and_then(|file| suited(&file)).map_or(PYTHON, |entry| entry.name)
}

/// The executor that runs this file; of several Python.
fn suited(file: &EntryFile) -> Option<&'static Entry<dyn Executor>> {
    let registry = Registry::<dyn Executor>::collect().ok()?;
    let mut can =
        registry.entries().iter().copied().filter(|entry| entry.needs_module && (entry.unfit)(file).is_none());
    let first = can.next()?;
    Some(if first.name == PYTHON { first } else { can.find(|entry| entry.name == PYTHON).unwrap_or(first) })
}

/// Whether the executor of what this loader's table gives, `use` included, knows an option.
#[must_use]
pub fn knows(loader: &Section, option: &str) -> bool {
    let mut loader = loader.clone();
    let name = loader.take("use").map(|name| name.to_string()).unwrap_or_default();
    let file =
        Registry::<dyn Loader>::collect().ok().and_then(|loaders| (loaders.get(&name).ok()?.entry_file)(&loader));
    // nothing there yet: as without a table
    let executor = file.and_then(|file| suited(&file));
    executor.is_none_or(|executor| property_names(&(executor.schema)()).iter().any(|name| name == option))
}

/// The loader for a path where none is named.
///
/// # Panics
/// Never: a loader of any file is part of each build.
#[must_use]
pub fn loader_for(path: &Path) -> Option<&'static Entry<dyn Loader>> {
    let registry = Registry::<dyn Loader>::collect().ok()?;
    let fits = registry.entries().iter().map(|entry| ((entry.takes)(path), *entry));
    let best = fits.filter(|(fit, _)| *fit > Fit::None).max_by_key(|(fit, _)| *fit);
    best.map(|(_, entry)| entry)
}

/// Why the executor cannot run the loader's file, with both names and the remedy; none where it can.
pub(crate) fn mismatch(
    executor: &'static Entry<dyn Executor>,
    loader: &'static Entry<dyn Loader>,
    file: &EntryFile,
) -> Option<String> {
    let why = (executor.unfit)(file)?;
    let remedy = match suited(file) {
        Some(other) => format!("use the executor '{}', or leave it out, so that the file decides", other.name),
        None => match loader_for(&file.path).filter(|other| other.name != loader.name && file.is_there()) {
            Some(other) if (other.takes)(&file.path) > Fit::Any => format!("use the loader '{}'", other.name),
            _ => "name the source file instead".to_owned(),
        },
    };
    Some(format!(
        "the executor '{}' cannot run '{}' of the loader '{}', which is {why}: {remedy}",
        executor.name,
        file.path.display(),
        loader.name
    ))
}

impl Reader {
    /// The executor of a function, by its table or by the loader's file.
    pub(super) fn executor(
        &mut self,
        executor: Section,
        loader: Option<&Choice<dyn Loader>>,
    ) -> Option<Choice<dyn Executor>> {
        let at = executor.problem(if executor.get("use").is_some() { "use" } else { "" }, "");
        let chosen = self.choose::<dyn Executor>(executor, Some(implied(loader)));
        if let (Some(chosen), Some(loader)) = (&chosen, loader)
            && chosen.entry.needs_module
            && let Some(file) = (loader.entry.entry_file)(&loader.section)
            && let Some(message) = mismatch(chosen.entry, loader.entry, &file)
        {
            self.problems.push(super::Problem { message, ..at });
        }
        chosen
    }
}
