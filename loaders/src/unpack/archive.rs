//! Finds the archive: a zip, a file with its base64 text, a folder that holds exactly one, or text from a variable.

use super::Limits;
use super::directory::{has_signature, locate};
use crate::refusal::{Refusal, plain, quoted};
use crate::regular;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD_INDIFFERENT};
use base64::read::DecoderReader;
use bytesize::ByteSize;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest base64 text. A ConfigMap or Secret holds 1 MiB; what is larger is better mounted as it is.
const LONGEST_TEXT: u64 = 64 << 20;
/// Names, headers and padding of an archive that compresses nothing.
const HEADERS: u64 = 16 << 20;
/// More names than this say nothing in a message.
const NAMES_SHOWN: usize = 10;
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PAD_INDIFFERENT);

/// An opened archive. It is read from the file, never whole into memory, and stays the same if the path is
/// replaced meanwhile.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The bytes of the zip.
    pub(crate) file: File,
    /// How many.
    pub(crate) len: u64,
    /// What it is called in messages.
    pub(crate) title: String,
    /// When the file that it came from was last changed.
    pub(crate) modified: SystemTime,
}

/// Whether a zip can be taken from `path`: a zip, its base64 text, or a folder that holds exactly one of them. Looks
/// at the first bytes only.
///
/// # Errors
/// [`Reason::Missing`](crate::Reason::Missing) and [`Reason::Unsuitable`](crate::Reason::Unsuitable) where nothing
/// that means to be a zip is there; the other reasons where one is and cannot be read.
pub fn probe(path: &Path) -> Result<(), Refusal> {
    Found::at(path).map(drop)
}

/// The path itself, or the only zip in the folder that it names.
pub(crate) fn file_at(path: &Path) -> Result<PathBuf, Refusal> {
    if path.is_dir() { only_zip_in(path) } else { Ok(path.to_path_buf()) }
}

/// A file that means to be a zip.
struct Found {
    file: File,
    meta: Metadata,
    title: String,
    is_text: bool,
}

impl Found {
    fn at(path: &Path) -> Result<Self, Refusal> {
        let path = &file_at(path)?;
        let (mut file, meta) = regular::open("zip", path)?;
        let head = head_of(&mut file).map_err(|error| Refusal::unreadable("zip", path, &error))?;
        let title = format!("zip {}", path.display());
        let is_text = is_base64_of_zip(&head);
        if !is_text && !has_signature(&head) {
            // a zip may stand behind a shebang; otherwise this says what is here instead
            locate(&mut file, meta.len()).map_err(|refusal| refusal.about(&title))?;
        }
        Ok(Self { file, meta, title, is_text })
    }
}

impl Archive {
    /// Opens what is at `path`. `scratch` takes the decoded bytes where it is base64 text.
    pub(crate) fn open(path: &Path, scratch: &Path) -> Result<Self, Refusal> {
        let Found { mut file, meta, title, is_text } = Found::at(path)?;
        let modified = meta.modified().unwrap_or_else(|_| SystemTime::now());
        if !is_text {
            return Ok(Self { file, len: meta.len(), title, modified });
        }
        if meta.len() > LONGEST_TEXT {
            return Err(too_long(meta.len()).about(&title));
        }
        file.rewind().map_err(|error| Refusal::unreadable("zip", path, &error))?;
        Self::decode(file, title, modified, scratch)
    }

    /// Refuses what cannot be within the limits, before all of it is read for its hash.
    pub(crate) fn refuse_above(&self, limits: &Limits) -> Result<(), Refusal> {
        if self.len <= limits.max_total.saturating_add(HEADERS) {
            return Ok(());
        }
        Err(Refusal::broken(format!(
            "has {}, more than the {} that it may unpack to: leave out what the function does not need, or raise max_total",
            ByteSize(self.len),
            ByteSize(limits.max_total)
        ))
        .about(&self.title))
    }

    /// Decodes base64 text that is no file.
    pub(crate) fn from_text(text: &str, scratch: &Path) -> Result<Self, Refusal> {
        let title = "base64 text of the zip";
        if text.len() as u64 > LONGEST_TEXT {
            return Err(too_long(text.len() as u64).about(title));
        }
        if !is_base64_of_zip(text.as_bytes()) {
            let start: String = text.trim_start().chars().take(24).collect();
            return Err(Refusal::unsuitable(format!(
                "starts with {}, not with the text of a zip (UEsD…): encode the archive with base64 -w0",
                quoted(&start)
            ))
            .about(title));
        }
        Self::decode(text.as_bytes(), title.to_owned(), SystemTime::now(), scratch)
    }

    fn decode(text: impl Read, title: String, modified: SystemTime, scratch: &Path) -> Result<Self, Refusal> {
        let cannot_write = |error: &io::Error| {
            Refusal::host(format!(
                "cannot be decoded in {}: {}; mount a writable folder there (an emptyDir at /tmp) or set TMPDIR to one",
                scratch.display(),
                plain(error)
            ))
            .about(&title)
        };
        let mut file = tempfile::tempfile_in(scratch).map_err(|error| cannot_write(&error))?;
        let mut bytes = DecoderReader::new(Letters(text), &BASE64);
        let mut piece = [0; 16 * 1024];
        let mut len = 0;
        loop {
            let read = bytes.read(&mut piece).map_err(|error| {
                Refusal::broken(format!("is no valid base64: {error}; encode the archive again with base64 -w0"))
                    .about(&title)
            })?;
            if read == 0 {
                return Ok(Self { file, len, title, modified });
            }
            file.write_all(&piece[..read]).map_err(|error| cannot_write(&error))?;
            len += read as u64;
        }
    }
}

/// Base64 text without its white space, with the letters of the url-safe alphabet made standard.
struct Letters<R>(R);

impl<R: Read> Read for Letters<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(buf)?;
            let mut kept = 0;
            for at in 0..read {
                let letter = match buf[at] {
                    b'-' => b'+',
                    b'_' => b'/',
                    white if white.is_ascii_whitespace() => continue,
                    other => other,
                };
                buf[kept] = letter;
                kept += 1;
            }
            // nothing but white space is not the end
            if kept > 0 || read == 0 {
                return Ok(kept);
            }
        }
    }
}

/// `PK` and the third byte of a signature, encoded.
fn is_base64_of_zip(head: &[u8]) -> bool {
    let text: Vec<u8> = head.iter().filter(|letter| !letter.is_ascii_whitespace()).take(4).copied().collect();
    matches!(&text[..], b"UEsD" | b"UEsF" | b"UEsH")
}

fn head_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head)?;
    Ok(head)
}

fn too_long(len: u64) -> Refusal {
    Refusal::broken(format!(
        "has {} of base64 text: at most {} are decoded; mount the archive itself",
        ByteSize(len),
        ByteSize(LONGEST_TEXT)
    ))
}

fn only_zip_in(folder: &Path) -> Result<PathBuf, Refusal> {
    let title = format!("zip folder {}", folder.display());
    let unreadable = |error| Refusal::unreadable("zip folder", folder, &error);
    let mut zips = Vec::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().as_bytes();
        // a mounted ConfigMap keeps its files behind hidden links
        if name.starts_with(b".") {
            continue;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        if fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
            let named = name.to_ascii_lowercase().ends_with(".zip");
            let head = regular::open("zip", &path).and_then(|(mut file, _)| head_of(&mut file).map_err(unreadable));
            if named || head.is_ok_and(|head| has_signature(&head) || is_base64_of_zip(&head)) {
                zips.push(path);
            }
            names.push(name);
        } else {
            names.push(name + "/");
        }
    }
    match &zips[..] {
        [zip] => Ok(zip.clone()),
        _ if names.is_empty() => Err(Refusal::unsuitable(
            "is an empty folder, as an absent optional ConfigMap or an unfilled volume leaves one: mount the archive there",
        )
        .about(&title)),
        [] => Err(Refusal::unsuitable(format!("holds no zip, only {}: mount exactly one there", listed(names)))
            .about(&title)),
        several => Err(Refusal::unsuitable(format!(
            "holds {} zips among {}: name the one to use",
            several.len(),
            listed(names)
        ))
        .about(&title)),
    }
}

/// Names for a message: sorted, escaped, and not too many.
pub(crate) fn listed(mut names: Vec<String>) -> String {
    names.sort();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let mut text: Vec<_> = names.iter().take(NAMES_SHOWN).map(|name| quoted(name)).collect();
    if more > 0 {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}
