//! Calls of `invoke`, and with `--state` a function's state in a file: read at the start, written at the end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runtime_core::contract::{Call, Env, Event, Fault, Function, Legacy, Returned, StateKey};
use state_codec::Document;

use super::say;

/// The state in a file.
pub(super) struct Kept {
    path: PathBuf,
    document: Document,
}

impl Kept {
    /// The state that the file holds; an empty one where there is no file yet, or nothing in it.
    ///
    /// # Errors
    /// It cannot be read, or is no whole state.
    pub(super) fn read(path: &Path) -> Result<Self, Fault> {
        let name = path.display();
        let document = match fs::read(path) {
            // as mktemp makes it: nothing of a state can be lost there
            Ok(bytes) if bytes.is_empty() => Document::default(),
            Ok(bytes) => Document::from_text(&bytes).map_err(|error| {
                let text = format!("the state file '{name}' is damaged, or no state; name another one, or remove it");
                Fault::file(text).caused_by(error)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // better now than after all events
                let folder = folder_of(path);
                if !folder.is_dir() {
                    return Err(Fault::file(format!(
                        "the state file '{name}' cannot be written: '{}' is no folder; make it, or name another file",
                        folder.display()
                    )));
                }
                Document::default()
            }
            Err(error) => {
                let text = format!("the state file '{name}' cannot be read; name a readable file, or a new one");
                return Err(Fault::file(text).caused_by(error));
            }
        };
        Ok(Self { path: path.to_owned(), document })
    }

    /// Has the function begin with it.
    ///
    /// # Errors
    /// The function cannot go on with this state.
    async fn give(&self, function: &mut dyn Function) -> Result<(), Fault> {
        if self.document.env.is_empty() {
            return Ok(());
        }
        let env = Env(self.document.env.clone());
        function.take_over(Some(Legacy::Encoded { env, lost: Vec::new() })).await
    }

    /// Writes the function's state in its place: whole, or not at all. What cannot be written is named.
    ///
    /// # Errors
    /// The state cannot be had, or the file cannot be written; it is as before then.
    async fn take(mut self, function: &mut dyn Function, label: &str) -> Result<(), Fault> {
        match function.hand_over().await? {
            Legacy::Encoded { env, lost } => {
                for name in lost {
                    say(&format!("not in the state file: {name}"));
                }
                self.document.env = env.0;
            }
            // the last call has ended the function's process: the state is what the calls before it have left
            Legacy::Live(_) => {}
        }
        label.clone_into(&mut self.document.function);
        self.document.version += 1;
        let name = self.path.display();
        let text = self
            .document
            .to_text()
            .map_err(|error| Fault::function(format!("the state cannot be written to '{name}'")).caused_by(error))?;
        replace(&self.path, text.as_bytes()).map_err(|error| {
            Fault::file(format!("the state file '{name}' cannot be written; it is as before")).caused_by(error)
        })
    }
}

/// The calls of one function.
pub(super) struct Calls<'a> {
    function: &'a mut dyn Function,
    /// The state, where there is a file for it.
    kept: Option<Kept>,
    /// Whether the state is taken from each batch, so that a process that ends takes nothing of it along.
    keep: bool,
}

impl<'a> Calls<'a> {
    /// Of a function that has not been called yet. It goes on with the state of the file.
    ///
    /// # Errors
    /// It cannot.
    pub(super) async fn begin(function: &'a mut dyn Function, kept: Option<Kept>) -> Result<Self, Fault> {
        let Some(kept) = kept else { return Ok(Self { function, kept: None, keep: false }) };
        // a library without `save` has nothing to give, and may be called all the same
        let keep = matches!(function.hand_over().await?, Legacy::Encoded { lost, .. } if lost.is_empty());
        kept.give(function).await?;
        Ok(Self { function, kept: Some(kept), keep })
    }

    /// What became of each event, in their order.
    ///
    /// # Errors
    /// The function is gone.
    pub(super) async fn call(&mut self, events: &[Event]) -> Result<Vec<Returned>, Fault> {
        let Some(kept) = self.kept.as_mut().filter(|_| self.keep) else {
            let outcomes = self.function.invoke(events, Call::default()).await?;
            return Ok(outcomes.into_iter().map(|outcome| outcome.returned).collect());
        };
        let mut all: Vec<Option<Returned>> = events.iter().map(|_| None).collect();
        let mut anew = false;
        loop {
            let left: Vec<usize> = (0..events.len()).filter(|index| all[*index].is_none()).collect();
            if left.is_empty() {
                return Ok(all.into_iter().flatten().collect());
            }
            let given: Vec<_> = left.iter().map(|index| events[*index].clone()).collect();
            let env = || (StateKey::default(), Env(kept.document.env.clone()));
            let states = anew.then(env).into_iter().collect();
            let outcomes = self.function.invoke(&given, Call { keep: true, states, anew, ..Call::default() }).await?;
            // where a process has ended, those that are not to blame are called once more, with the state from before
            anew = true;
            for (index, outcome) in left.into_iter().zip(outcomes) {
                for (_, env) in outcome.states {
                    kept.document.env = env.0;
                }
                all[index] = Some(outcome.returned).filter(|returned| !matches!(returned, Returned::NotCalled));
            }
        }
    }

    /// Writes the state into its file.
    ///
    /// # Errors
    /// It cannot be had, or not be written; the file is as before then.
    pub(super) async fn end(self, label: &str) -> Result<(), Fault> {
        match self.kept {
            Some(kept) => kept.take(self.function, label).await,
            None => Ok(()),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// On the disk under another name first.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}
