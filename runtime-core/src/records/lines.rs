//! Lines out of what programs write, however it is read.

use super::passing::passing;

/// A line of more bytes comes in pieces.
pub const LONGEST: usize = 64 << 10;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// What was read since the last line break.
    open: Vec<u8>,
}

impl Lines {
    /// The next bytes; `each` gets every line that they complete, without its line break, and whether it is a piece of a
    /// long one whose next line of this stream is the continuation. What is no UTF-8 is replaced.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(String, bool)) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut line, ended) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
            while self.open.len() + line.len() > LONGEST {
                let (fits, later) = line.split_at(LONGEST - self.open.len());
                self.open.extend_from_slice(fits);
                line = later;
                let full = self.open.len();
                self.settle(false, &mut each);
                if self.open.len() < full {
                    continue;
                }
                let at = whole(&self.open);
                each(lossy(&self.open[..at]), true);
                self.open.drain(..at);
            }
            self.open.extend_from_slice(line);
            if ended {
                self.settle(true, &mut each);
                each(lossy(&self.open), false);
                self.open.clear();
            }
        }
    }

    /// Leaves the last of what was written over each other. The others are lines of their own, unless they were passing
    /// states. What may have more to come is left beside it.
    fn settle(&mut self, ended: bool, each: &mut impl FnMut(String, bool)) {
        let Some(returned) = self.open.iter().rposition(|byte| *byte == b'\r') else { return };
        let (texts, more) = if ended { (&self.open[..], None) } else { (&self.open[..returned], Some(returned)) };
        let mut last: &[u8] = b"";
        for text in texts.split(|byte| *byte == b'\r').filter(|text| !text.is_empty()) {
            if !last.is_empty() && !passing(last, text) {
                each(lossy(last), false);
            }
            last = text;
        }
        let more = more.map_or(&b""[..], |more| &self.open[more..]);
        self.open = [last, more].concat();
    }

    /// The end of the stream. The last line need not have a line break.
    pub fn end(mut self, mut each: impl FnMut(String, bool)) {
        self.settle(true, &mut each);
        if !self.open.is_empty() {
            each(lossy(&self.open), false);
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The length without a letter at the end whose last bytes are still to come.
fn whole(bytes: &[u8]) -> usize {
    let end = bytes.len();
    // a letter has at most four bytes
    for back in 1..=end.min(3) {
        let width = match bytes[end - back] {
            0b1000_0000..=0b1011_1111 => continue,
            0b1100_0000..=0b1101_1111 => 2,
            0b1110_0000..=0b1110_1111 => 3,
            0b1111_0000..=0b1111_0111 => 4,
            _ => 1,
        };
        return if width > back { end - back } else { end };
    }
    end
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, bool)> {
        let (mut lines, mut got) = (Lines::default(), Vec::new());
        pieces.into_iter().for_each(|piece| lines.push(piece, |text, cut| got.push((text, cut))));
        lines.end(|text, cut| got.push((text, cut)));
        got
    }

    fn texts(got: &[(String, bool)]) -> Vec<&str> {
        got.iter().map(|(text, _)| text.as_str()).collect()
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_were_read(text in "(é|\n|ab){0,60}", size in 1_usize..9) {
            let got = split(text.as_bytes().chunks(size));
            prop_assert_eq!(texts(&got), text.lines().collect::<Vec<_>>());
        }

        #[test]
        fn garbage_is_replaced(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            split([&bytes[..]]);
        }
    }

    #[test]
    fn the_last_line_needs_no_break_and_windows_breaks_are_breaks() {
        assert_eq!(texts(&split([&b"a\r\n\nb\xffc\nlast"[..]])), ["a", "", "b\u{fffd}c", "last"]);
    }

    #[test]
    fn what_is_written_over_is_a_line_unless_it_passes() {
        assert_eq!(texts(&split([&b"boom\rTraceback\rValueError: x\n"[..]])), ["boom", "Traceback", "ValueError: x"]);
        let bar: String = (0..20_000).map(|n| format!("\r{n:6} of 20000 rows")).collect();
        assert!(bar.len() > 4 * LONGEST);
        let got = split([b"begins\n", bar.as_bytes(), b"\r\nends\r\n"]);
        assert_eq!(texts(&got), ["begins", " 19999 of 20000 rows", "ends"]);
        assert_eq!(texts(&split([&b"50%\r100%\r"[..], b"    \r", b"done"])), ["done"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_of_whole_letters() {
        // the limit falls between the bytes of a letter
        let long = format!("a{}", "é".repeat(LONGEST));
        let got = split([long.as_bytes(), b"\nnext\n"]);
        assert_eq!(got.iter().map(|(_, cut)| *cut).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(got.iter().all(|(text, _)| text.len() <= LONGEST && !text.contains('\u{fffd}')));
        assert_eq!(texts(&got)[..3].concat(), long);
        assert_eq!(got[3].0, "next");
        let exact = "b".repeat(LONGEST);
        assert_eq!(split([exact.as_bytes(), b"\n"]), [(exact, false)]);
    }

    #[test]
    fn long_garbage_is_cut_too() {
        let got = split([&[0b1011_1111; LONGEST + 10][..]]);
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].0.chars().count(), LONGEST);
    }
}
