//! Zips from strangers, unpacked into a private folder.
//!
//! ```text
//!   path or text ── archive ──> file ── directory ──> place and count ── plan ──> files ── extract ──> folder
//!                    (what is it?)      (claims, capped)     (every entry checked)     (bytes counted)
//! ```
//!
//! * `archive` - the file, the base64 text, or the only zip of a folder
//! * `directory` - where the list of entries lies, before anything is allocated for it
//! * `name` - an entry's name as a path that stays inside
//! * `plan` - every refusal that needs no unpacking
//! * `extract` - writing, and the checks that only the bytes allow
//!
//! Nothing is written before the plan stands, nothing outside the folder ever, and memory does not grow with
//! what an archive unpacks to.

mod archive;
mod directory;
mod extract;
mod name;
mod plan;

pub use archive::probe;
pub(crate) use archive::{Archive, file_at, listed};
pub(crate) use extract::{PrivateFolder, cannot_write, private_folder};

use crate::hash::ContentHash;
use crate::refusal::Refusal;
use bytesize::ByteSize;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use zip::read::{ArchiveOffset, Config};
use zip::unstable::read::ZipIterable;

/// Bytes of the central directory per accepted entry, three times what ordinary names take. All names are held in
/// memory, twice, and old code pages grow threefold as UTF-8: 10,000 entries stay below 24 MiB.
const DIRECTORY_BYTES_PER_ENTRY: u64 = 400;
/// A few entries may each have long names and comments.
const SMALLEST_DIRECTORY_CAP: u64 = 1 << 20;

/// How much an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries, folders and skipped ones included.
    pub max_entries: u64,
    /// Bytes of all unpacked files together.
    pub max_total: u64,
    /// Unpacked bytes per packed byte, over all files, once more than 16 MiB unpack.
    pub max_ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // generous for a function with its libraries, small for a node's disk
        Self { max_entries: 10_000, max_total: 512 << 20, max_ratio: 200 }
    }
}

/// Unpacks an archive into a new folder below `place`; the folder is removed when it is dropped.
pub(crate) fn unpack(archive: &mut Archive, limits: &Limits, place: &Path) -> Result<PrivateFolder, Refusal> {
    // entries are read at scattered places: a larger buffer would only be thrown away
    unpack_from(BufReader::with_capacity(1024, &mut archive.file), archive.len, limits, place)
        .map_err(|refusal| refusal.about(&archive.title))
}

/// The names of the files in an archive, if it is within the usual limits.
pub(crate) fn names(archive: &mut Archive) -> Result<Vec<String>, Refusal> {
    let (len, limits) = (archive.len, Limits::default());
    let (_, plan) = planned(BufReader::with_capacity(1024, &mut archive.file), len, &limits)?;
    Ok(plan.files.into_iter().map(|file| file.path).collect())
}

/// The hash of the archive's bytes.
pub(crate) fn hash(archive: &mut Archive) -> Result<ContentHash, Refusal> {
    let unreadable = |error: io::Error| Refusal::broken(format!("cannot be read: {error}")).about(&archive.title);
    archive.file.rewind().map_err(unreadable)?;
    ContentHash::of_reader(&mut archive.file).map_err(unreadable)
}

fn unpack_from<R: Read + Seek>(reader: R, len: u64, limits: &Limits, place: &Path) -> Result<PrivateFolder, Refusal> {
    let (mut zip, plan) = planned(reader, len, limits)?;
    let folder = private_folder(place)?;
    extract::extract(&mut zip, &plan, folder.path())?;
    Ok(folder)
}

/// Everything short of writing.
fn planned<R: Read + Seek>(mut reader: R, len: u64, limits: &Limits) -> Result<(ZipIterable<R>, plan::Plan), Refusal> {
    let directory = directory::locate(&mut reader, len)?;
    if directory.entries > limits.max_entries {
        return Err(Refusal::broken(format!(
            "holds {} entries: at most {} are accepted; pack only what the function needs, or raise max_entries",
            directory.entries, limits.max_entries
        )));
    }
    let most = limits.max_entries.saturating_mul(DIRECTORY_BYTES_PER_ENTRY).max(SMALLEST_DIRECTORY_CAP);
    if directory.size > most {
        return Err(Refusal::broken(format!(
            "has a list of entries of {}: at most {} are accepted; pack only what the function needs",
            ByteSize(directory.size),
            ByteSize(most)
        )));
    }
    let config = Config { archive_offset: ArchiveOffset::Known(directory.prefix) };
    let mut zip = ZipIterable::try_new(reader, config)
        .map_err(|error| Refusal::broken(format!("is damaged: {error}; copy or pack it again")))?;
    if zip.len() as u64 != directory.entries {
        return Err(Refusal::broken("is damaged: it has several ends that disagree; copy or pack it again"));
    }
    let plan = plan::plan(&mut zip, &directory, limits)?;
    Ok((zip, plan))
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
