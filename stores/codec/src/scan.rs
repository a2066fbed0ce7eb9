//! JSON, token by token.
//!
//! A scanner of our own, as the crates turn integers beyond 64 bits into floats without a word, or bring big numbers
//! with them that nothing here needs; and a reader that knows what it expects at each place can say what is wrong there.

use std::borrow::Cow;

use crate::error::{Reason, unfit};

/// A text and how far it was read.
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What was read since `start`.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(crate) fn wrong(&self, wanted: &'static str) -> Reason {
        if self.at >= self.text.len() { Reason::Torn(self.text.len()) } else { Reason::Syntax { at: self.at, wanted } }
    }

    /// The next byte that is no white space, which stays where it is.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Whether this byte comes next; it is taken then.
    #[inline]
    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<(), Reason> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong(wanted)) }
    }

    /// The next item of a list: `false` at its end.
    pub(crate) fn next_item(&mut self, first: bool, end: u8) -> Result<bool, Reason> {
        if self.take(end) {
            return Ok(false);
        }
        if !first {
            self.expect(b',', "a comma or the closing bracket")?;
            if self.peek() == Some(end) {
                return Err(self.wrong("a value after the comma"));
            }
        }
        Ok(true)
    }

    pub(crate) fn word(&mut self, word: &'static str) -> Result<(), Reason> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        if word.as_bytes().starts_with(rest) {
            self.at = self.text.len();
        }
        Err(self.wrong("a value"))
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Reason> {
        if self.peek().is_none() { Ok(()) } else { Err(self.wrong("the end")) }
    }

    /// The digits of a number as they stand.
    pub(crate) fn number(&mut self) -> Result<&'a str, Reason> {
        self.peek();
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> Result<(), Reason> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.wrong("a digit")) }
    }

    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Reason> {
        self.expect(b'"', "a text in double quotes")?;
        let start = self.at;
        match self.run()? {
            b'"' => Ok(Cow::Borrowed(&self.text[start..self.at - 1])),
            _ => self.escaped(start).map(Cow::Owned),
        }
    }

    /// Goes past the next quote or backslash and tells which it was.
    fn run(&mut self) -> Result<u8, Reason> {
        let rest = &self.text.as_bytes()[self.at..];
        match rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
            None => {
                self.at = self.text.len();
                Err(self.wrong("a double quote"))
            }
            Some(offset) if rest[offset] < 0x20 => {
                self.at += offset;
                Err(self.wrong("an escaped control character"))
            }
            Some(offset) => {
                self.at += offset + 1;
                Ok(rest[offset])
            }
        }
    }

    /// The rest of a text whose first backslash was just read.
    fn escaped(&mut self, start: usize) -> Result<String, Reason> {
        let mut text = self.text[start..self.at - 1].to_owned();
        loop {
            let escape = self.byte().ok_or_else(|| self.wrong("an escape"))?;
            let plain = match escape {
                b'"' | b'\\' | b'/' => char::from(escape),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    self.at += 1;
                    let letter = self.unicode()?;
                    // `unicode` stands behind its digits, the others before their letter
                    self.at -= 1;
                    letter
                }
                _ => return Err(self.wrong("one of the escapes \" \\ / b f n r t u")),
            };
            self.at += 1;
            text.push(plain);
            let from = self.at;
            let end = self.run()?;
            text.push_str(&self.text[from..self.at - 1]);
            if end == b'"' {
                return Ok(text);
            }
        }
    }

    fn unicode(&mut self) -> Result<char, Reason> {
        let lone = || unfit("a lone surrogate; text with one is written as {\"$str\":\"base64\"}");
        let high = self.hex()?;
        if !(0xd800..0xe000).contains(&high) {
            return char::from_u32(high).ok_or_else(lone);
        }
        let rest = &self.text[self.at..];
        if high < 0xdc00 && "\\u".starts_with(rest) {
            return Err(Reason::Torn(self.text.len()));
        }
        if high >= 0xdc00 || !rest.starts_with("\\u") {
            return Err(lone());
        }
        self.at += 2;
        let low = self.hex()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(lone());
        }
        char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(lone)
    }

    fn hex(&mut self) -> Result<u32, Reason> {
        let mut number = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            number = number << 4 | digit.ok_or_else(|| self.wrong("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(number)
    }
}
