//! A strict JSON scanner that writes a value's canonical form and hashes it.
//!
//! No JSON crate compares as precisely as the contract asks (2^64 ≠ 2^64+1, 1 ≠ 1.0, 0.1 ≠
//! 0.10000000000000000001, lone surrogates and `NaN` accepted), so the texts are never turned into
//! values: one pass rewrites them into a form in which equal values are equal bytes.
//!
//! | value | canonical form; each is self-delimiting, so lists need no lengths |
//! |---|---|
//! | null, true, false | `n` `t` `f` |
//! | integer | `i`, the digits with their sign, 0xFF; `-0` is `0` |
//! | float | `d`, sign, digits without outer zeros, `e`, 8 bytes of exponent: ±0.DIGITS × 10^exponent |
//! | NaN, ±Infinity | `N` `P` `M` |
//! | string | `s`, its unescaped UTF-8 (three bytes for a lone surrogate), 0xFF, which UTF-8 never has |
//! | array | `[`, the items, `]` |
//! | object | `{`, SHA-256 of its members in a fixed order |
//!
//! An object is replaced by its hash at once: however deep it lies, its bytes are moved only once.

use sha2::{Digest, Sha256};

use super::Malformed;

/// Levels of arrays and objects; see [`super::fingerprint`].
const DEPTH: usize = 900;

/// `sys.int_info.default_max_str_digits` of CPython.
const INTEGER_DIGITS: usize = 4300;

/// Ends strings and integers; a byte that neither can contain.
const END: u8 = 0xff;

/// Bytes that need a look inside a string: the quote, the escape and the control characters.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// SHA-256 of the canonical form of the JSON text in `bytes`.
pub(super) fn digest(bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(Malformed { at: error.valid_up_to(), reason: "not valid utf-8" });
    }
    let mut scan = Scan {
        text: bytes,
        at: 0,
        out: Vec::with_capacity(bytes.len() + 64),
        members: Vec::with_capacity(64),
        ordered: Vec::with_capacity(bytes.len()),
    };
    scan.space();
    scan.value(0)?;
    scan.space();
    if scan.at < bytes.len() {
        return scan.fault("expected the end of the text");
    }
    Ok(Sha256::digest(&scan.out).into())
}

/// One pass over one text.
struct Scan<'a> {
    text: &'a [u8],
    /// The next byte to read.
    at: usize,
    /// The canonical form so far.
    out: Vec<u8>,
    /// Members of the objects that are open, outermost first.
    members: Vec<Member>,
    /// Where the members of a closing object are put in order before they are hashed.
    ordered: Vec<u8>,
}

/// Where a member's canonical key and value lie in `out`.
struct Member {
    /// The key's last eight bytes. The order of members may be any that the keys alone decide;
    /// names such as `cpu_percent-7` differ at their end, so one number settles most comparisons.
    tail: u64,
    key: usize,
    value: usize,
    end: usize,
}

impl<'a> Scan<'a> {
    fn fault<T>(&self, reason: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, reason })
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{' | b'[') if depth == DEPTH => self.fault("nested more than 900 levels deep"),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b't') => self.word(b"true", b't'),
            Some(b'f') => self.word(b"false", b'f'),
            Some(b'n') => self.word(b"null", b'n'),
            Some(b'N') => self.word(b"NaN", b'N'),
            Some(b'I') => self.word(b"Infinity", b'P'),
            _ => self.fault("expected a value"),
        }
    }

    fn word(&mut self, word: &[u8], tag: u8) -> Result<(), Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return self.fault("expected a value");
        }
        self.at += word.len();
        self.out.push(tag);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Malformed> {
        self.at += 1;
        self.out.push(b'[');
        self.space();
        if self.peek() != Some(b']') {
            loop {
                self.value(depth)?;
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return self.fault("expected ',' or ']'"),
                }
                self.space();
            }
        }
        self.at += 1;
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Malformed> {
        self.at += 1;
        let (start, first) = (self.out.len(), self.members.len());
        self.space();
        if self.peek() != Some(b'}') {
            loop {
                self.member(depth)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    _ => return self.fault("expected ',' or '}'"),
                }
                self.space();
            }
        }
        self.at += 1;
        self.close(start, first);
        Ok(())
    }

    /// One key, its value, and the white space after it.
    fn member(&mut self, depth: usize) -> Result<(), Malformed> {
        if self.peek() != Some(b'"') {
            return self.fault("expected a key in double quotes");
        }
        let key = self.out.len();
        self.string()?;
        let value = self.out.len();
        self.space();
        if self.peek() != Some(b':') {
            return self.fault("expected ':'");
        }
        self.at += 1;
        self.space();
        self.value(depth)?;
        let tail = self.out[key..value].last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.members.push(Member { tail, key, value, end: self.out.len() });
        self.space();
        Ok(())
    }

    /// Replaces the members since `start` by the hash of them in order, the last of equal keys.
    fn close(&mut self, start: usize, first: usize) {
        let Self { out, members, ordered, .. } = self;
        let own = &mut members[first..];
        let name = |member: &Member| &out[member.key..member.value];
        own.sort_unstable_by(|a, b| a.tail.cmp(&b.tail).then_with(|| name(a).cmp(name(b))).then(a.key.cmp(&b.key)));
        ordered.clear();
        for (n, member) in own.iter().enumerate() {
            let again = own.get(n + 1).is_some_and(|next| next.tail == member.tail && name(next) == name(member));
            if !again {
                ordered.extend_from_slice(&out[member.key..member.end]);
            }
        }
        let sum: [u8; 32] = Sha256::digest(&*ordered).into();
        out.truncate(start);
        out.push(b'{');
        out.extend_from_slice(&sum);
        members.truncate(first);
    }

    fn string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        self.out.push(b's');
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.iter().position(|&byte| SPECIAL[usize::from(byte)]).unwrap_or(rest.len());
            self.out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fault("a control character inside a string must be escaped"),
                None => return self.fault("unterminated string"),
            }
        }
        self.at += 1;
        self.out.push(END);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        let plain = match self.text.get(self.at + 1) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.code_point(),
            _ => return self.fault("unknown escape"),
        };
        self.out.push(plain);
        self.at += 2;
        Ok(())
    }

    /// `\uXXXX`, or two of them that make one character.
    fn code_point(&mut self) -> Result<(), Malformed> {
        let Some(mut point) = self.unit(self.at) else {
            return self.fault("expected four hexadecimal digits after \\u");
        };
        self.at += 6;
        if let 0xd800..=0xdbff = point
            && let Some(low @ 0xdc00..=0xdfff) = self.unit(self.at)
        {
            point = 0x10000 + ((point - 0xd800) << 10 | (low - 0xdc00));
            self.at += 6;
        }
        match char::from_u32(point) {
            Some(char) => self.out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            // a lone surrogate, in the three bytes that UTF-8 keeps free for it
            None => self.out.extend_from_slice(&[0xed, 0x80 | (point >> 6 & 0x3f) as u8, 0x80 | (point & 0x3f) as u8]),
        }
        Ok(())
    }

    /// The value of an escape `\uXXXX` at `at`, if there is one.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)?))
    }

    fn digits(&mut self) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        &rest[..count]
    }

    fn number(&mut self) -> Result<(), Malformed> {
        let text = self.text;
        let negative = text[self.at] == b'-';
        self.at += usize::from(negative);
        let start = self.at;
        match self.peek() {
            // what follows a leading zero is judged by the caller, who expects no digit there
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => drop(self.digits()),
            Some(b'I') if negative => return self.word(b"Infinity", b'M'),
            _ => return self.fault("expected a digit"),
        }
        let whole = &text[start..self.at];

        let mut fraction: &[u8] = &[];
        let dot = self.peek() == Some(b'.');
        if dot {
            self.at += 1;
            let from = self.at;
            if self.digits().is_empty() {
                return self.fault("expected a digit after the decimal point");
            }
            fraction = &text[from..self.at];
        }

        let mut exponent: &[u8] = &[];
        let mut down = false;
        let power = matches!(self.peek(), Some(b'e' | b'E'));
        if power {
            self.at += 1;
            if let Some(sign @ (b'+' | b'-')) = self.peek() {
                down = sign == b'-';
                self.at += 1;
            }
            let from = self.at;
            if self.digits().is_empty() {
                return self.fault("expected a digit in the exponent");
            }
            exponent = &text[from..self.at];
        }

        if dot || power {
            self.float(negative, whole, fraction, down, exponent);
            return Ok(());
        }
        if whole.len() > INTEGER_DIGITS {
            return Err(Malformed { at: start, reason: "an integer of more than 4300 digits" });
        }
        self.out.push(b'i');
        if negative && whole != b"0" {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(whole);
        self.out.push(END);
        Ok(())
    }

    fn float(&mut self, negative: bool, whole: &[u8], fraction: &[u8], down: bool, exponent: &[u8]) {
        self.out.extend_from_slice(&[b'd', if negative { b'-' } else { b'+' }]);
        let start = self.out.len();
        let mut leading = 0;
        for part in [whole, fraction] {
            let zeros = match self.out.len() == start {
                true => part.iter().position(|&digit| digit != b'0').unwrap_or(part.len()),
                false => 0,
            };
            leading += zeros;
            self.out.extend_from_slice(&part[zeros..]);
        }
        while self.out.len() > start && self.out.last() == Some(&b'0') {
            self.out.pop();
        }
        let zero = self.out.len() == start;
        let shift = whole.len() as i64 - leading as i64;
        self.out.push(b'e');
        let stated =
            exponent.iter().try_fold(0i64, |sum, &digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')));
        let stated = stated.map(|sum| if down { -sum } else { sum });
        match stated.and_then(|sum| sum.checked_add(shift)).filter(|&sum| sum != i64::MIN) {
            _ if zero => self.out.extend_from_slice(&0i64.to_le_bytes()),
            Some(sum) => self.out.extend_from_slice(&sum.to_le_bytes()),
            // Past any number of this world: two spellings of the same one may count as a change.
            None => {
                self.out.extend_from_slice(&i64::MIN.to_le_bytes());
                self.out.push(if down { b'-' } else { b'+' });
                let zeros = exponent.iter().position(|&digit| digit != b'0').unwrap_or(exponent.len());
                self.out.extend_from_slice(&exponent[zeros..]);
                self.out.push(END);
                self.out.extend_from_slice(&shift.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        digest(a.as_bytes()).unwrap() == digest(b.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_are_compared_as_typed_decimals() {
        for (a, b) in [
            ("1.0", "1.00"),
            ("1.0", "1e0"),
            ("1.0", "10E-1"),
            ("1.0", "0.001e+3"),
            ("12.50", "1.25e1"),
            ("-0", "0"),
            ("0.0", "0e9"),
            ("-0.0", "-0e-7"),
            ("0.0", "0.0e99999999999999999999999"),
            ("1e5", "1e00000000000000000000000000000005"),
            ("1e99999999999999999999999", "1e+099999999999999999999999"),
            ("NaN", " NaN"),
            ("100.0", "1e2"),
            ("0.05", "5e-2"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("18446744073709551616", "18446744073709551617"),
            ("0.1", "0.10000000000000000001"),
            ("-0.0", "0.0"),
            ("0", "0.0"),
            ("1", "-1"),
            ("1.5", "-1.5"),
            ("1e400", "1e401"),
            ("1e400", "Infinity"),
            ("Infinity", "-Infinity"),
            ("NaN", "null"),
            ("1e99999999999999999999999", "1e99999999999999999999998"),
            ("1e99999999999999999999999", "1e-99999999999999999999999"),
            ("1.5", "15.0"),
            ("10.0", "1.0"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn strings_are_compared_unescaped() {
        for (a, b) in [
            (r#""\u0041""#, r#""A""#),
            (r#""\/""#, r#""/""#),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#""\u00E9""#, "\"é\""),
            (r#""\n""#, r#""\u000a""#),
            (r#"{"\u0061": 1}"#, r#"{"a": 1}"#),
            (r#""\ud83d\ud83d\ude00""#, "\"\\uD83D😀\""),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [
            (r#""\ud83d""#, r#""\ude00""#),
            (r#""\ude00\ud83d""#, "\"😀\""),
            (r#""a""#, r#""A""#),
            (r#""1""#, "1"),
            (r#""\\u0041""#, r#""A""#),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn objects_know_no_order_and_the_last_duplicate_counts() {
        for (a, b) in [
            (r#"{"a":1,"b":2}"#, r#"{ "b" : 2 , "a" : 1 }"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":2,"b":3,"a":1}"#, r#"{"a":1,"b":3}"#),
            (r#"{"long-key-one":1,"":[],"long-key-one":{}}"#, r#"{"":[],"long-key-one":{}}"#),
            (r#"[{"a":{"c":1,"d":2}}]"#, r#"[{"a":{"d":2,"c":1}}]"#),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("[1,2]", "[2,1]"),
            ("[[1],2]", "[[1,2]]"),
            ("[]", "{}"),
            (r#"{"a":1,"b":2}"#, r#"{"a":2,"b":1}"#),
            (r#"{"a":"b"}"#, r#"["a","b"]"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
            ("[]", "[[]]"),
            ("[null]", "[]"),
            (r#"{"ab":"c"}"#, r#"{"a":"bc"}"#),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let keyed = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        assert!(digest(nested(DEPTH).as_bytes()).is_ok());
        assert!(digest(keyed(DEPTH).as_bytes()).is_ok());
        assert_eq!(
            digest(nested(DEPTH + 1).as_bytes()),
            Err(Malformed { at: DEPTH, reason: "nested more than 900 levels deep" })
        );
        assert!(digest("[".repeat(1_000_000).as_bytes()).is_err());
    }
}
