//! Reads the central directory, entry by entry, and refuses everything that must not be unpacked before
//! a single byte is written.

use super::Limits;
use super::directory::Directory;
use super::name;
use crate::refusal::{Refusal, quoted};
use bytesize::ByteSize;
use std::io::{Read, Seek};
use zip::read::ZipFileEntry;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, HasZipMetadata};

/// Below this, a high ratio is ordinary: a log or a table of zeros packs a thousandfold.
const RATIO_COUNTS_PAST: u64 = 16 << 20;

/// The file type bits of a unix mode.
const TYPE: u32 = 0o170_000;

/// What will be written. Memory is bounded by the directory's size, which the caller has checked.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Files in the archive's order, which is the order in which they are read.
    pub(crate) files: Vec<PlannedFile>,
    /// Folders that the archive names by themselves; they may be empty.
    pub(crate) folders: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct PlannedFile {
    /// Which entry of the archive.
    pub(crate) index: usize,
    /// Normalised, with `/`; relative.
    pub(crate) path: String,
    /// Bytes that it must have.
    pub(crate) size: u64,
    /// The owner may execute it.
    pub(crate) executable: bool,
}

/// Where an entry lies in the archive, for the check of overlaps.
struct Extent {
    start: u64,
    end: u64,
    name: String,
}

/// Checks all entries of `zip`, whose directory lies at `directory`.
pub(crate) fn plan<R: Read + Seek>(
    zip: &mut ZipIterable<R>,
    directory: &Directory,
    limits: &Limits,
) -> Result<Plan, Refusal> {
    let damaged = |error| Refusal::broken(format!("is damaged: {error}; copy or pack it again"));
    let mut plan = Plan::default();
    let mut extents = Vec::new();
    let (mut unpacked, mut packed) = (0u64, 0u64);
    let entries = zip.files().map_err(damaged)?;
    let mut index = 0;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(damaged)?;
        if !(directory.start..directory.start + directory.size).contains(&entry.central_header_start()) {
            return Err(Refusal::broken("is damaged: its list of entries is longer than its end says; pack it again"));
        }
        let name = decoded(&entry)?;
        let parts = name::parts(&name)?;
        let kept = !name::is_litter(&parts) && !parts.is_empty();
        refuse_special(&entry, &name)?;

        let data = entry.get_metadata().data_start(entries.reader_mut()).map_err(|error| {
            Refusal::broken(format!("entry {} is damaged: {error}; copy or pack the archive again", quoted(&name)))
        })?;
        let end = data.saturating_add(entry.compressed_size());
        if end > directory.start {
            return Err(Refusal::broken(format!(
                "entry {} reaches into the list of entries: the archive is damaged or a bomb; pack it again",
                quoted(&name)
            )));
        }

        if kept && entry.is_dir() {
            plan.folders.push(parts.join("/"));
        } else if kept {
            refuse_unreadable(&entry, &name)?;
            unpacked = unpacked.saturating_add(entry.size());
            packed = packed.saturating_add(entry.compressed_size());
            if unpacked > limits.max_total {
                return Err(Refusal::broken(format!(
                    "unpacks to more than {} (at entry {}): leave out what the function does not need, or raise max_total",
                    ByteSize(limits.max_total),
                    quoted(&name)
                )));
            }
            plan.files.push(PlannedFile {
                index,
                path: parts.join("/"),
                size: entry.size(),
                executable: entry.external_attributes() >> 16 & 0o100 != 0,
            });
        }
        extents.push(Extent { start: entry.header_start(), end, name: name.into_owned() });
        index += 1;
    }
    refuse_ratio(&plan, unpacked, packed, limits)?;
    refuse_overlaps(extents)?;
    refuse_clashes(&plan, limits)?;
    if plan.files.is_empty() {
        return Err(Refusal::broken("holds no files: pack the function's folder again"));
    }
    Ok(plan)
}

/// The name as text: UTF-8, or the code page of old packers.
fn decoded<'a>(entry: &'a ZipFileEntry<'_>) -> Result<std::borrow::Cow<'a, str>, Refusal> {
    let raw = entry.name_raw();
    let promised = entry.flags().as_u16() & 1 << 11 != 0;
    if promised && std::str::from_utf8(raw).is_err() {
        return Err(Refusal::broken(format!(
            "entry {} has a name that is no UTF-8 although it says so: rename the file and pack the archive again",
            quoted(&String::from_utf8_lossy(raw))
        )));
    }
    entry.name().map_err(|_| {
        Refusal::broken(format!(
            "entry {} has a name that cannot be read: rename the file and pack the archive again",
            quoted(&String::from_utf8_lossy(raw))
        ))
    })
}

fn refuse_special(entry: &ZipFileEntry<'_>, name: &str) -> Result<(), Refusal> {
    // whatever system the entry claims to be from: a link must not pass as a file of DOS
    let kind = match entry.external_attributes() >> 16 & TYPE {
        0o120_000 => "a symbolic link",
        0o010_000 => "a named pipe",
        0o020_000 | 0o060_000 => "a device",
        0o140_000 => "a socket",
        0o040_000 if !entry.is_dir() => "a folder with the name of a file",
        _ => return Ok(()),
    };
    Err(Refusal::broken(format!(
        "entry {} is {kind}: only files and folders are accepted; pack the archive again with the file itself",
        quoted(name)
    )))
}

fn refuse_unreadable(entry: &ZipFileEntry<'_>, name: &str) -> Result<(), Refusal> {
    let name = quoted(name);
    if entry.encrypted() {
        return Err(Refusal::broken(format!("entry {name} is encrypted: pack the archive again without a password")));
    }
    let method = entry.compression();
    if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
        #[allow(deprecated)] // the crate has no other way to tell the number of a method it does not know
        let number = method.to_u16();
        let known = CompressionMethod::name_from_u16(number).to_lowercase();
        return Err(Refusal::broken(format!(
            "entry {name} is compressed with method {number} ({known}): pack the archive again with deflate, \
             the default of zip and of python -m zipfile"
        )));
    }
    if method == CompressionMethod::Stored && entry.size() != entry.compressed_size() {
        return Err(Refusal::broken(format!(
            "entry {name} is stored in {} bytes and claims {}: the archive is damaged; pack it again",
            entry.compressed_size(),
            entry.size()
        )));
    }
    Ok(())
}

fn refuse_ratio(plan: &Plan, unpacked: u64, packed: u64, limits: &Limits) -> Result<(), Refusal> {
    if unpacked <= RATIO_COUNTS_PAST || unpacked <= packed.saturating_mul(limits.max_ratio) {
        return Ok(());
    }
    let largest = plan.files.iter().max_by_key(|file| file.size).map_or("", |file| file.path.as_str());
    Err(Refusal::broken(format!(
        "unpacks to {} from {}, more than {} times as much (largest: entry {}): leave that file out, or raise max_ratio",
        ByteSize(unpacked),
        ByteSize(packed),
        limits.max_ratio,
        quoted(largest)
    )))
}

fn refuse_overlaps(mut extents: Vec<Extent>) -> Result<(), Refusal> {
    extents.sort_unstable_by_key(|extent| (extent.start, extent.end));
    match extents.windows(2).find(|pair| pair[0].end > pair[1].start) {
        Some(pair) => Err(Refusal::broken(format!(
            "entries {} and {} overlap: the archive is damaged or a bomb; pack it again",
            quoted(&pair[0].name),
            quoted(&pair[1].name)
        ))),
        None => Ok(()),
    }
}

/// Two files of one name, a file where another entry needs a folder, and more folders than entries would explain.
fn refuse_clashes(plan: &Plan, limits: &Limits) -> Result<(), Refusal> {
    let files = plan.files.iter().map(|file| (file.path.as_str(), false));
    let mut all: Vec<_> = files.chain(plan.folders.iter().map(|path| (path.as_str(), true))).collect();
    // by components, so that what lies below a path follows it directly
    all.sort_unstable_by(|a, b| a.0.split('/').cmp(b.0.split('/')));
    let mut before = ("", true);
    let mut created = 0;
    for this in all {
        let (path, folder) = before;
        if path == this.0 && !folder && !this.1 {
            return Err(Refusal::broken(format!(
                "entry {} is there twice: remove one (zip -d) or pack the archive again",
                quoted(path)
            )));
        }
        let below = this.0.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        if path == this.0 && folder != this.1 || below && !folder {
            return Err(Refusal::broken(format!(
                "entry {} is both a file and a folder: rename one and pack the archive again",
                quoted(path)
            )));
        }
        let common = path.split('/').zip(this.0.split('/')).take_while(|(a, b)| a == b).count();
        created += this.0.split('/').count() - common;
        before = this;
    }
    if created as u64 > limits.max_entries.saturating_mul(2) {
        return Err(Refusal::broken(format!(
            "makes {created} files and folders: at most twice max_entries ({}) are accepted; pack fewer, or raise it",
            limits.max_entries
        )));
    }
    Ok(())
}
