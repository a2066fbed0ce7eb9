//! Where a zip's central directory lies and how much it claims, read before anything is allocated for it.
//!
//! The `zip` crate looks for the directory too, but generously: it searches the whole file and remembers what
//! it finds. Knowing the place beforehand, we tell it, and a hostile archive costs neither time nor memory.

use crate::refusal::{Refusal, quoted};
use std::io::{self, Read, Seek, SeekFrom};

/// The end record's fixed part, and the longest comment that may follow it.
const END_SIZE: usize = 22;
const LONGEST_COMMENT: usize = u16::MAX as usize;
const LOCATOR_SIZE: u64 = 20;
/// The zip64 end record as everybody writes it: without an extensible data sector.
const END64_SIZE: u64 = 56;

/// What the end of the archive says; nothing of it is proven yet except that it lies inside the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Entries claimed.
    pub(crate) entries: u64,
    /// First byte of the central directory in the file.
    pub(crate) start: u64,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Bytes in front of the archive (a shebang, a self-extractor): every offset inside counts from there.
    pub(crate) prefix: u64,
}

/// Reads the end record of the archive in `reader`, which is `len` bytes long.
pub(crate) fn locate<R: Read + Seek>(reader: &mut R, len: u64) -> Result<Directory, Refusal> {
    let unreadable = |error: io::Error| Refusal::broken(format!("cannot be read: {error}"));
    let tail_len = len.min((END_SIZE + LONGEST_COMMENT) as u64);
    let tail = read_at(reader, len - tail_len, tail_len as usize).map_err(unreadable)?;
    let Some(at) = end_record(&tail) else {
        let head = read_at(reader, 0, len.min(24) as usize).map_err(unreadable)?;
        return Err(no_end(&head, len));
    };
    let end = &tail[at..];
    let mut directory_end = len - tail_len + at as u64;
    let mut disks = [u64::from(u16_at(end, 4)), u64::from(u16_at(end, 6))];
    let mut here = u64::from(u16_at(end, 8));
    let mut entries = u64::from(u16_at(end, 10));
    let mut size = u64::from(u32_at(end, 12));
    let mut offset = u64::from(u32_at(end, 16));

    // written also where it is not needed, by packers that did not know the size beforehand
    if let Some(locator_at) = directory_end.checked_sub(LOCATOR_SIZE) {
        let locator = read_at(reader, locator_at, LOCATOR_SIZE as usize).map_err(unreadable)?;
        if locator.starts_with(b"PK\x06\x07") {
            let end64_at = locator_at.checked_sub(END64_SIZE).ok_or_else(displaced)?;
            let end64 = read_at(reader, end64_at, END64_SIZE as usize).map_err(unreadable)?;
            let (record, stated_at) = (u64_at(&end64, 4), u64_at(&locator, 8));
            if !end64.starts_with(b"PK\x06\x06") || record != END64_SIZE - 12 || stated_at > end64_at {
                return Err(displaced());
            }
            let (short, long) = ([entries, size, offset], [32, 40, 48].map(|at| u64_at(&end64, at)));
            let saturated = [u64::from(u16::MAX), u64::from(u32::MAX), u64::from(u32::MAX)];
            // readers differ in which of the two they believe
            if (0..3).any(|field| short[field] != long[field] && short[field] != saturated[field]) {
                return Err(displaced());
            }
            directory_end = end64_at;
            disks = [u64::from(u32_at(&end64, 16)), u64::from(u32_at(&end64, 20))];
            here = u64_at(&end64, 24);
            [entries, size, offset] = long;
        }
    }

    if disks != [0, 0] || here != entries {
        return Err(Refusal::broken(
            "is one part of a split archive: join the parts first (zip -s 0 part.zip --out whole.zip)",
        ));
    }
    let start = directory_end.checked_sub(size).ok_or_else(displaced)?;
    let prefix = start.checked_sub(offset).ok_or_else(displaced)?;
    Ok(Directory { entries, start, size, prefix })
}

/// Whether a file that starts with `head` means to be a zip.
pub(crate) fn has_signature(head: &[u8]) -> bool {
    [&b"PK\x03\x04"[..], b"PK\x05\x06", b"PK\x07\x08"].iter().any(|signature| head.starts_with(signature))
}

/// The last end record in `tail` whose comment fits.
fn end_record(tail: &[u8]) -> Option<usize> {
    let last = tail.len().checked_sub(END_SIZE)?;
    (0..=last).rev().find(|&at| {
        tail[at..].starts_with(b"PK\x05\x06") && at + END_SIZE + usize::from(u16_at(&tail[at..], 20)) <= tail.len()
    })
}

fn no_end(head: &[u8], len: u64) -> Refusal {
    if has_signature(head) {
        Refusal::broken(format!(
            "is cut off: the list of entries at its end is missing, {len} bytes are here; copy the whole file again"
        ))
    } else if head.is_empty() {
        Refusal::unsuitable("is empty, not a zip: mount the archive itself")
    } else {
        Refusal::unsuitable(format!(
            "is not a zip: it starts with {}; mount the archive itself, or its base64 text",
            quoted(&String::from_utf8_lossy(head))
        ))
    }
}

fn displaced() -> Refusal {
    Refusal::broken("is damaged: its list of entries is not where its end says; copy or pack it again")
}

fn read_at<R: Read + Seek>(reader: &mut R, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    reader.seek(SeekFrom::Start(at))?;
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

// Callers hand over slices that hold the whole record; a shorter one reads as zero.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::refusal::Reason;
    use std::io::Cursor;

    fn end(entries: u16, size: u32, offset: u32, comment: &[u8]) -> Vec<u8> {
        let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
        bytes.extend(entries.to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend((comment.len() as u16).to_le_bytes());
        bytes.extend(comment);
        bytes
    }

    fn of(bytes: &[u8]) -> Result<Directory, Refusal> {
        locate(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn finds_the_directory_behind_a_comment_and_a_prefix() {
        let mut bytes = vec![b'#'; 30];
        bytes.extend([0; 100]);
        bytes.extend(end(2, 60, 40, b"a comment with PK\x05\x06 in it, too short for a record"));
        assert_eq!(of(&bytes).unwrap(), Directory { entries: 2, start: 70, size: 60, prefix: 30 });
    }

    fn with_zip64(values: [u64; 3], short: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 50];
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([0; 12]);
        for value in [values[0], values[0], values[1], values[2]] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(50u64.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(short);
        bytes
    }

    #[test]
    fn reads_the_zip64_record_where_there_is_one() {
        let needed = with_zip64([100_000, 20, 30], &end(u16::MAX, u32::MAX, u32::MAX, b""));
        assert_eq!(of(&needed).unwrap(), Directory { entries: 100_000, start: 30, size: 20, prefix: 0 });
        let not_needed = with_zip64([3, 20, 25], &end(3, 20, 25, b""));
        assert_eq!(of(&not_needed).unwrap(), Directory { entries: 3, start: 30, size: 20, prefix: 5 });
        let two_truths = with_zip64([4, 20, 30], &end(3, 20, 30, b""));
        assert_eq!(of(&two_truths).unwrap_err().to_string(), displaced().to_string());
    }

    #[test]
    fn says_what_is_there_instead() {
        let text = of(b"import os\nprint('x')\n").unwrap_err();
        assert_eq!(text.reason, Reason::Unsuitable);
        assert_eq!(
            text.to_string(),
            r"is not a zip: it starts with 'import os\nprint(\'x\')\n'; mount the archive itself, or its base64 text"
        );
        assert_eq!(of(b"").unwrap_err().to_string(), "is empty, not a zip: mount the archive itself");
        let cut = of(b"PK\x03\x04 and then nothing").unwrap_err();
        assert_eq!(cut.reason, Reason::Broken);
        assert!(cut.to_string().starts_with("is cut off"), "{cut}");
    }

    #[test]
    fn refuses_a_directory_outside_the_file_and_split_archives() {
        assert_eq!(of(&end(1, 46, 0, b"")).unwrap_err().to_string(), displaced().to_string());
        assert_eq!(of(&end(1, 0, 1, b"")).unwrap_err().to_string(), displaced().to_string());
        let mut split = end(1, 0, 0, b"");
        split[4] = 1;
        assert!(of(&split).unwrap_err().to_string().contains("split archive"));
    }
}
