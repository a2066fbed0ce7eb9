//! A function's state in a file, for `invoke --state`: read at the start, written at the end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runtime_core::contract::{Env, Fault, Function, Legacy};
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
    pub(super) async fn give(&self, function: &mut dyn Function) -> Result<(), Fault> {
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
    pub(super) async fn take(mut self, function: &mut dyn Function, label: &str) -> Result<(), Fault> {
        let Legacy::Encoded { env, lost } = function.hand_over().await? else {
            return Err(Fault::internal("the function's state came as live objects"));
        };
        for name in lost {
            say(&format!("not in the state file: {name}"));
        }
        label.clone_into(&mut self.document.function);
        self.document.version += 1;
        self.document.env = env.0;
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
