//! The files of one function's states.
//!
//! ```text
//! vm.json              the state, where there is one for all, or that of events without a value
//! vm.json.lock         locked by the process that has it, whose number is in it
//! vm.json.tmp          a state that is being written; never read
//! vm.json.d/HASH.json  the state of one value
//! vm.json.d/.next/     states that are being written together; never read
//! vm.json.d/.commit/   the same, complete: the rename of the folder is the moment at which all of them are saved;
//!                      what a crash left in it is moved to its place before anything is read
//! ```

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use runtime_core::Fault;
use runtime_core::change::Fingerprint;
use runtime_core::contract::{Env, Found, Saved, StateKey, Versioned};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use state_codec::Document;

use crate::disk::{self, beside};

/// Versions that are remembered.
const MOST: usize = 10_000;

/// Files that have expired are looked for no more often: each look goes through all of them.
const SWEEP: Duration = Duration::from_secs(10);

/// The name in a set of files of the one that lies beside the folder.
const ALONE: &str = "state.json";

pub(super) struct Place {
    function: String,
    path: PathBuf,
    ttl: Option<Duration>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Locked, and so until the process ends, however it ends.
    lock: Option<File>,
    /// A set of states is saved and not yet in its place.
    unmoved: bool,
    /// Of states that were loaded or saved; nobody else changes them, but they expire.
    versions: HashMap<StateKey, u64>,
    /// When files that have expired are looked for again.
    sweep_at: Option<Instant>,
}

impl Held {
    fn note(&mut self, key: &StateKey, version: u64) {
        if self.versions.len() >= MOST && !self.versions.contains_key(key) {
            // they are read again where they are needed
            self.versions.clear();
        }
        self.versions.insert(key.clone(), version);
    }
}

impl Place {
    pub(super) fn new(function: &str, path: PathBuf, ttl: Option<Duration>) -> Self {
        Self { function: function.to_owned(), path, ttl, held: Mutex::default() }
    }

    pub(super) const fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// A file that cannot be used is the trouble of its key alone; one that cannot be read is the disk's.
    pub(super) fn load(&self, keys: &[StateKey]) -> Result<Vec<Found>, Fault> {
        let mut held = self.held()?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            found.push(match self.read(key) {
                Ok(state) => {
                    held.note(key, state.as_ref().map_or(0, |state| state.version));
                    Ok(state)
                }
                Err(fault) if fault.retry() => return Err(fault),
                Err(fault) => {
                    held.versions.remove(key);
                    Err(fault)
                }
            });
        }
        self.sweep_if_due(&mut held);
        Ok(found)
    }

    pub(super) fn save(&self, states: &[(StateKey, Versioned)]) -> Result<Saved, Fault> {
        let mut held = self.held()?;
        let mut stale = Vec::new();
        for (key, state) in states {
            let current = match held.versions.get(key) {
                Some(version) => *version,
                None => self.read(key)?.map_or(0, |state| state.version),
            };
            // written by a save that failed in its last step, and is repeated
            if current + 1 != state.version && !self.has(key, state)? {
                stale.push(key.clone());
            }
        }
        if !stale.is_empty() {
            return Ok(Saved::Stale(stale));
        }
        match states {
            [] => return Ok(Saved::Done),
            [(key, state)] => {
                if key.0.is_some() {
                    self.make_folder()?;
                }
                self.replace(&self.file_of(key), &self.text(key, state)?)?;
            }
            several => {
                // also where the last step fails: the set may be complete by then
                held.unmoved = true;
                self.prepare(several)?;
                // saved by now, whatever happens: the next load or save moves what is left
                match self.move_over() {
                    Ok(()) => held.unmoved = false,
                    Err(fault) => tracing::warn!(function = %self.function, "{}", fault.chain()),
                }
            }
        }
        states.iter().for_each(|(key, state)| held.note(key, state.version));
        // not before: what is saved may have been about to expire
        self.sweep_if_due(&mut held);
        Ok(Saved::Done)
    }

    /// Whether this very state is there. Nobody else can have written it, as the files are locked.
    fn has(&self, key: &StateKey, state: &Versioned) -> Result<bool, Fault> {
        let is_same = |there: Versioned| {
            (there.version, &there.env, there.fingerprint) == (state.version, &state.env, state.fingerprint)
        };
        Ok(self.read(key)?.is_some_and(is_same))
    }

    /// With the lock on the files, and everything in its place.
    fn held(&self) -> Result<MutexGuard<'_, Held>, Fault> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.lock.is_none() {
            held.lock = Some(self.lock()?);
            held.unmoved = true;
        }
        if held.unmoved {
            self.move_over()?;
            held.unmoved = false;
        }
        Ok(held)
    }

    fn sweep_if_due(&self, held: &mut Held) {
        if let Some(ttl) = self.ttl
            && held.sweep_at.is_none_or(|at| at <= Instant::now())
        {
            held.sweep_at = Instant::now().checked_add(ttl.max(SWEEP));
            let removed = self.sweep(ttl);
            if !removed.is_empty() {
                held.versions.retain(|key, _| !removed.contains(&self.file_of(key)));
            }
        }
    }

    fn lock(&self) -> Result<File, Fault> {
        let path = beside(&self.path, ".lock");
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.map_err(|error| trouble("lock", &path, error))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => self.in_use(&mut file),
            error => trouble("lock", &self.path, error.into()),
        })?;
        // for whoever comes after; without it the lock holds as well
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(file)
    }

    fn in_use(&self, lock: &mut File) -> Fault {
        let mut text = String::new();
        let _ = lock.read_to_string(&mut text);
        let by = match text.trim().parse::<u32>() {
            Ok(process) if process == std::process::id() => "another function of this process".to_owned(),
            Ok(process) => format!("process {process}"),
            Err(_) => "another process".to_owned(),
        };
        let path = self.path.display();
        Fault::backend(format!("state file '{path}' is in use by {by}: end that one, or give each a path of its own"))
    }

    fn folder(&self) -> PathBuf {
        beside(&self.path, ".d")
    }

    fn make_folder(&self) -> Result<(), Fault> {
        let folder = self.folder();
        match fs::create_dir(&folder) {
            Ok(()) => sync_folder_of(&folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(trouble("make", &folder, error)),
        }
    }

    fn file_of(&self, key: &StateKey) -> PathBuf {
        if key.0.is_some() { self.folder().join(name_of(key)) } else { self.path.clone() }
    }

    fn text(&self, StateKey(key): &StateKey, state: &Versioned) -> Result<String, Fault> {
        let document = Document {
            function: self.function.clone(),
            key: key.clone(),
            version: state.version,
            fingerprint: state.fingerprint.as_ref().map(ToString::to_string),
            env: state.env.0.clone(),
        };
        let function = &self.function;
        document.to_text().map_err(|error| {
            Fault::internal(format!("the state of function '{function}' cannot be written")).caused_by(error)
        })
    }

    fn read(&self, key: &StateKey) -> Result<Option<Versioned>, Fault> {
        let path = self.file_of(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            // also where the folder is not there yet
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble("read", &path, error)),
        };
        let age = self.ttl.map_or(Duration::ZERO, |_| Self::age(&path));
        if self.ttl.is_some_and(|ttl| age > ttl) {
            return Ok(None);
        }
        let unusable = |why: String| {
            let path = path.display();
            Fault::file(format!(
                "state file '{path}' cannot be used: {why}; restore it from a copy, or delete it to begin with an empty \
                 state"
            ))
        };
        let document = Document::from_text(&bytes).map_err(|error| unusable(error.to_string()))?;
        // a file written by hand need not say it
        if document.key.is_some() && document.key != key.0 {
            return Err(unusable(format!("it holds the state of '{}'", document.key.unwrap_or_default())));
        }
        let fingerprint = document.fingerprint.as_deref().and_then(Fingerprint::from_hex);
        let left = self.ttl.map(|ttl| ttl.saturating_sub(age));
        Ok(Some(Versioned {
            version: document.version,
            env: Env(document.env),
            fingerprint,
            left,
            ..Versioned::default()
        }))
    }

    /// Since it was written. A clock that was put back makes nothing old.
    fn age(path: &Path) -> Duration {
        let modified = fs::metadata(path).and_then(|meta| meta.modified()).ok();
        modified.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
    }

    /// Removes states that nobody has asked for since they expired; the files that are gone.
    fn sweep(&self, ttl: Duration) -> HashSet<PathBuf> {
        let files = fs::read_dir(self.folder()).into_iter().flatten().flatten().map(|entry| entry.path());
        let states = files.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let expired = states.chain([self.path.clone()]).filter(|path| Self::age(path) > ttl);
        // whatever cannot be removed stays
        expired.filter(|path| fs::remove_file(path).is_ok()).collect()
    }

    /// Writes a file beside the old one and puts it in its place.
    fn replace(&self, path: &Path, text: &str) -> Result<(), Fault> {
        let next = beside(path, ".tmp");
        write(&next, text)?;
        fs::rename(&next, path).map_err(|error| trouble("replace", path, error))?;
        sync_folder_of(path)
    }

    /// Writes several states into a folder of their own, and gives it the name by which they count.
    fn prepare(&self, states: &[(StateKey, Versioned)]) -> Result<(), Fault> {
        self.make_folder()?;
        let next = self.folder().join(".next");
        match fs::remove_dir_all(&next) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(trouble("remove", &next, error)),
            _ => {}
        }
        fs::create_dir(&next).map_err(|error| trouble("make", &next, error))?;
        for (key, state) in states {
            write(&next.join(name_of(key)), &self.text(key, state)?)?;
        }
        sync(&next)?;
        let commit = self.folder().join(".commit");
        fs::rename(&next, &commit).map_err(|error| trouble("replace", &commit, error))?;
        sync(&self.folder())
    }

    /// Moves the files of a complete set to their places. May be repeated.
    fn move_over(&self) -> Result<(), Fault> {
        let commit = self.folder().join(".commit");
        let entries = match fs::read_dir(&commit) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(trouble("read", &commit, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| trouble("read", &commit, error))?;
            let name = entry.file_name();
            let place = if name == ALONE { self.path.clone() } else { self.folder().join(&name) };
            fs::rename(entry.path(), &place).map_err(|error| trouble("replace", &place, error))?;
        }
        sync(&self.folder())?;
        sync_folder_of(&self.path)?;
        fs::remove_dir(&commit).map_err(|error| trouble("remove", &commit, error))
    }
}

/// A name that any file system takes, whatever the value is.
fn name_of(StateKey(key): &StateKey) -> OsString {
    let Some(key) = key else { return ALONE.into() };
    let mut name: String = Sha256::digest(key).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    name.push_str(".json");
    name.into()
}

fn write(path: &Path, text: &str) -> Result<(), Fault> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| trouble("write", path, error))
}

fn sync(folder: &Path) -> Result<(), Fault> {
    disk::sync(folder).map_err(|error| trouble("write", folder, error))
}

fn sync_folder_of(path: &Path) -> Result<(), Fault> {
    sync(disk::folder_of(path))
}

fn trouble(verb: &str, path: &Path, error: std::io::Error) -> Fault {
    disk::trouble("state file", verb, path, error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The next save finds what has expired gone, not what it brings itself.
    #[test]
    fn a_look_for_expired_files_spares_what_is_being_saved() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new("vm", folder.path().join("vm.json"), Some(Duration::from_secs(3600)));
        let key = |key: &str| StateKey(Some(key.to_owned()));
        let state = |version| Versioned { version, ..Versioned::default() };
        assert_eq!(place.save(&[(key("a"), state(1)), (key("b"), state(1))]).unwrap(), Saved::Done);
        for key in [key("a"), key("b")] {
            let long_ago = SystemTime::now() - Duration::from_secs(3700);
            File::open(place.file_of(&key)).unwrap().set_modified(long_ago).unwrap();
        }
        place.held().unwrap().sweep_at = None;
        assert_eq!(place.save(&[(key("a"), state(2))]).unwrap(), Saved::Done);
        assert_eq!(place.save(&[(key("b"), state(2))]).unwrap(), Saved::Stale(vec![key("b")]));
        assert!(place.file_of(&key("a")).exists() && !place.file_of(&key("b")).exists());
    }
}
