//! JSON lines, read within bounds: of a line that is too long only the start is kept, and the rest goes on.

use std::io::{self, BufRead, BufReader, Read};

use runtime_core::options::Size;

/// The longest line that is one event, where nothing else is said: [`Event::payload`](runtime_core::contract::Event).
pub const MAX_PAYLOAD: u64 = 64 << 20;

/// What is kept of a line that is too long: enough to recognise it.
const KEPT: u64 = 64 << 10;

/// What text in UTF-8 begins with, where its writer marks it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How files begin that hold lines only for those who know how to read them, and what they are.
const OTHERS: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip data; unpack it first, as by `gzip -dc`"),
    (b"\x28\xb5\x2f\xfd", "zstd data; unpack it first, as by `zstd -dc`"),
    (b"\xfd7zXZ\0", "xz data; unpack it first, as by `xz -dc`"),
    (b"BZh", "bzip2 data; unpack it first, as by `bzip2 -dc`"),
    (b"PK\x03\x04", "a zip; unpack it first"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
];

/// A line that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1, blank ones included.
    pub number: u64,
    /// Without the line end; of a line that is too long, its start.
    pub text: Vec<u8>,
    /// Why it is no event: it is too long.
    pub flaw: Option<String>,
}

/// Reads lines, one after the other.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    max: u64,
    /// Lines that were read.
    number: u64,
    /// Bytes that were read.
    offset: u64,
}

impl<R: Read> Lines<R> {
    /// Lines of up to `max` bytes.
    pub fn new(input: R, max: u64) -> Self {
        Self { reader: BufReader::with_capacity(64 << 10, input), max, number: 0, offset: 0 }
    }

    /// Whether the next line is there already, so that asking for it waits for nobody.
    pub fn has_next(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// The number of the line that comes next.
    pub const fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// The next line that is not blank; none at the end. The last one needs no line end.
    ///
    /// # Errors
    /// The input cannot be read, or holds no lines of text at all.
    pub fn read_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if self.offset == 0 {
                self.begin()?;
            }
            let start = self.offset;
            let mut text = Vec::new();
            // with the longest line end
            let most = self.max.saturating_add(2);
            let read = (&mut self.reader).take(most).read_until(b'\n', &mut text)?;
            if read == 0 {
                return Ok(None);
            }
            self.offset += read as u64;
            self.number += 1;
            let ended = text.ends_with(b"\n");
            let end = text.strip_suffix(b"\n").map_or(read, |text| text.strip_suffix(b"\r").unwrap_or(text).len());
            if end as u64 > self.max {
                return self.cut(text, start, ended).map(Some);
            }
            text.truncate(end);
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, text, flaw: None }));
            }
        }
    }

    /// Passes over a mark; refuses what is no text.
    fn begin(&mut self) -> io::Result<()> {
        let start = loop {
            match self.reader.fill_buf() {
                Ok(start) => break start,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        if let Some((_, what)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is {what}")));
        }
        if start.starts_with(MARK) {
            self.reader.consume(MARK.len());
            self.offset += MARK.len() as u64;
        }
        Ok(())
    }

    /// A line that is too long: passes over the rest of it.
    fn cut(&mut self, mut text: Vec<u8>, start: u64, ended: bool) -> io::Result<Line> {
        if !ended {
            self.offset += self.reader.skip_until(b'\n')? as u64;
        }
        let length = self.offset - start;
        text.truncate(usize::try_from(self.max.min(KEPT)).unwrap_or(usize::MAX));
        text.shrink_to_fit();
        let flaw = format!(
            "line {} at byte {start} has {length} bytes, more than max_payload ({}); write each event on a line of its own",
            self.number,
            Size(self.max)
        );
        Ok(Line { number: self.number, text, flaw: Some(flaw) })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(text: &[u8], max: u64) -> Vec<(u64, String, Option<String>)> {
        let mut lines = Lines::new(text, max);
        let mut found = Vec::new();
        while let Some(line) = lines.read_line().unwrap() {
            found.push((line.number, String::from_utf8_lossy(&line.text).into_owned(), line.flaw));
        }
        found
    }

    fn texts(text: &[u8]) -> Vec<(u64, String)> {
        all(text, 100)
            .into_iter()
            .map(|(number, text, flaw)| {
                assert_eq!(flaw, None);
                (number, text)
            })
            .collect()
    }

    #[test]
    fn lines_in_every_form() {
        let pair = |number, text: &str| (number, text.to_owned());
        assert_eq!(texts(b"1\r\n\n \t\r\n[2]\n\"last\""), [pair(1, "1"), pair(4, "[2]"), pair(5, "\"last\"")]);
        assert_eq!(texts(b"\xef\xbb\xbf1\n2"), [pair(1, "1"), pair(2, "2")]);
        assert_eq!(texts(b"a\0b\n\xff\n3\r"), [pair(1, "a\0b"), pair(2, "\u{fffd}"), pair(3, "3\r")]);
        assert_eq!(texts(b""), []);
        assert_eq!(texts(b"\n\n"), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_rest_goes_on() {
        let said = |number: u64, start: u64, length: u64| {
            Some(format!(
                "line {number} at byte {start} has {length} bytes, more than max_payload (4); write each event on a line of its own"
            ))
        };
        let whole = |number: u64, text: &str| (number, text.to_owned(), None);
        let cut = |number, text: &str, flaw| (number, text.to_owned(), flaw);
        assert_eq!(
            all(b"1234\r\n12345\n123456\r\n1234567\n4\n", 4),
            [
                whole(1, "1234"),
                cut(2, "1234", said(2, 6, 6)),
                cut(3, "1234", said(3, 12, 8)),
                cut(4, "1234", said(4, 20, 8)),
                whole(5, "4"),
            ]
        );
        // the last line, without its end
        assert_eq!(all(b"1\n12345678", 4), [whole(1, "1"), cut(2, "1234", said(2, 2, 8))]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut lines = Lines::new(io::repeat(b'x').take(256 << 20).chain(&b"\n2\n"[..]), 1 << 20);
        let first = lines.read_line().unwrap().unwrap();
        assert_eq!((first.text.len() as u64, first.text.capacity() as u64), (KEPT, KEPT));
        assert!(first.flaw.unwrap().contains("line 1 at byte 0 has 268435457 bytes"));
        assert_eq!(lines.read_line().unwrap().unwrap().text, b"2");
    }

    #[test]
    fn what_is_no_text_is_said() {
        for (start, word) in [(&b"\x1f\x8b\x08\0"[..], "gzip"), (b"\xff\xfe1\0", "UTF-16"), (b"PK\x03\x04", "a zip")] {
            let error = Lines::new(start, 100).read_line().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
