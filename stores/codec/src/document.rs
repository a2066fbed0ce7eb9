//! A whole state as a file: versioned, checked, and still readable.
//!
//! ```json
//! {"gaugefn_state":1,"function":"vm","version":7,"fingerprint":null,
//! "env":[
//! ["count",3],
//! ["window",{"$deque":{"maxlen":5,"items":[1.5,2.0]}}]
//! ],
//! "sha256":"4f1c…"}
//! ```
//!
//! One line for each entry of the state. An entry without a key text, `[value]`, says what the state itself is where
//! that is no dict. The checksum covers every byte before its own comma. A file that somebody wrote by hand leaves it out,
//! and may leave out everything but `gaugefn_state` and `env`.

use std::collections::HashSet;
use std::fmt::Write as _;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::FORMAT;
use crate::error::{Error, Reason, unfit};
use crate::read::skip;
use crate::scan::Scan;
use crate::write::Writer;

/// The state of one function, or of one key of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The function's label; empty where a file does not say it.
    pub function: String,
    /// Which of the function's states, where it has one for each value found in its events.
    pub key: Option<String>,
    /// Counts the commits.
    pub version: u64,
    /// The input that the last commit was made of: 64 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Key texts and value texts, in order. An empty key text stands before the value that is the state itself.
    pub env: Vec<(Bytes, Bytes)>,
}

impl Document {
    /// The text of the file. It ends with its closing brace: whatever is cut off, the rest is refused.
    ///
    /// # Errors
    /// A half of an entry is no text of this format.
    pub fn to_text(&self) -> Result<String, Error> {
        let size: usize = self.env.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
        let mut text = String::with_capacity(size + 256);
        let quoted = |name: &str| {
            let mut writer = Writer::default();
            writer.str(name);
            writer.finish()
        };
        // a String takes whatever is written
        let _ = write!(text, "{{\"gaugefn_state\":{FORMAT},\"function\":{}", quoted(&self.function));
        if let Some(key) = &self.key {
            let _ = write!(text, ",\"key\":{}", quoted(key));
        }
        let fingerprint = self.fingerprint.as_deref().map_or_else(|| "null".to_owned(), quoted);
        let _ = write!(text, ",\"version\":{},\"fingerprint\":{fingerprint},\n\"env\":[", self.version);
        for (index, (key, value)) in self.env.iter().enumerate() {
            let within = |error: Error| error.within(format!(".env[{index}]"));
            text.push_str(if index == 0 { "\n[" } else { ",\n[" });
            if !key.is_empty() {
                text.push_str(whole(key).map_err(within)?);
                text.push(',');
            }
            text.push_str(whole(value).map_err(within)?);
            text.push(']');
        }
        text.push_str(if self.env.is_empty() { "]" } else { "\n]" });
        let sum = sum(&text);
        let _ = write!(text, ",\n\"sha256\":\"{sum}\"}}");
        Ok(text)
    }

    /// The state of a file.
    ///
    /// # Errors
    /// The file is torn, is no state, was written by a newer version, or was changed after its checksum was made.
    pub fn from_text(text: &[u8]) -> Result<Self, Error> {
        let text = utf8(text)?;
        let mut parts = Parts::default();
        parts.read(text)?;
        match parts.format {
            None => Err(unfit("no state: it has no key 'gaugefn_state'; name a file that holds one").into()),
            Some(0) => Err(unfit(format!("format 0 does not exist; write {FORMAT}")).within(".gaugefn_state")),
            Some(format) if format > u64::from(FORMAT) => Err(newer(format).within(".gaugefn_state")),
            Some(_) => parts.finish(),
        }
    }
}

impl Reason {
    fn within(self, step: &str) -> Error {
        Error::from(self).within(step)
    }
}

fn newer(format: u64) -> Reason {
    unfit(format!(
        "format {format} was written by a newer version, this one reads up to {FORMAT}; run that version, or begin \
         with an empty state"
    ))
}

/// What was found in a file so far.
#[derive(Default)]
struct Parts {
    format: Option<u64>,
    document: Document,
    seen: HashSet<String>,
    /// A key of some other format, or a slip.
    unknown: Option<String>,
    env: bool,
}

impl Parts {
    fn read(&mut self, text: &str) -> Result<(), Error> {
        let mut scan = Scan::new(text);
        scan.expect(b'{', "a state, which begins with '{\"gaugefn_state\":'")?;
        let mut end = scan.at();
        while scan.next_item(self.seen.is_empty(), b'}')? {
            let name = scan.string()?.into_owned();
            scan.expect(b':', "a colon")?;
            let step = format!(".{name}");
            if !self.seen.insert(name.clone()) {
                return Err(unfit("is there twice; keep one of the two").within(&step));
            }
            self.member(&name, &mut scan, &text[..end]).map_err(|error| error.within(step))?;
            end = scan.at();
            if name == "sha256" {
                scan.expect(b'}', "the end, as 'sha256' is the last key")?;
                break;
            }
        }
        Ok(scan.end()?)
    }

    fn member(&mut self, name: &str, scan: &mut Scan<'_>, before: &str) -> Result<(), Error> {
        match name {
            "gaugefn_state" => {
                let format = whole_number(scan)?;
                if format > u64::from(FORMAT) {
                    // what follows may look like nothing that is known here
                    return Err(newer(format).into());
                }
                self.format = Some(format);
            }
            "function" => self.document.function = scan.string()?.into_owned(),
            "key" => self.document.key = optional(scan)?,
            "version" => self.document.version = whole_number(scan)?,
            "fingerprint" => {
                let digits = optional(scan)?;
                let fits = |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !digits.as_ref().is_none_or(fits) {
                    return Err(unfit("is neither null nor 64 hexadecimal digits; write null").into());
                }
                self.document.fingerprint = digits;
            }
            "env" => {
                self.env = true;
                self.document.env = entries(scan)?;
            }
            "sha256" => {
                if *scan.string()? != sum(before) {
                    return Err(unfit(
                        "the checksum does not fit: the file was damaged, or edited; restore it, or if the edit was \
                         meant, remove this key",
                    )
                    .into());
                }
            }
            _ => {
                skip(scan)?;
                self.unknown.get_or_insert_with(|| name.to_owned());
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Document, Error> {
        if let Some(name) = self.unknown {
            let known = "gaugefn_state, function, key, version, fingerprint, env, sha256";
            return Err(unfit(format!("unknown key '{name}', known are: {known}")).into());
        }
        if self.env { Ok(self.document) } else { Err(unfit("the key 'env' is missing; write \"env\":[]").into()) }
    }
}

fn entries(scan: &mut Scan<'_>) -> Result<Vec<(Bytes, Bytes)>, Error> {
    let mut entries = Vec::new();
    let mut keys = HashSet::new();
    scan.expect(b'[', "a list of entries [key,value]")?;
    while scan.next_item(entries.is_empty(), b']')? {
        let step = format!("[{}]", entries.len());
        let (key, value) = entry(scan).map_err(|error| error.within(step.clone()))?;
        if !keys.insert(key) {
            return Err(unfit(format!("the key {key} is there twice; keep one of the two")).within(&step));
        }
        let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        entries.push((copy(key), copy(value)));
    }
    Ok(entries)
}

/// `[key,value]`, or `[value]` with an empty key text.
fn entry<'a>(scan: &mut Scan<'a>) -> Result<(&'a str, &'a str), Error> {
    scan.expect(b'[', "an entry [key,value]")?;
    let first = slice(scan)?;
    if scan.take(b']') {
        return Ok(("", first));
    }
    scan.expect(b',', "the value of the entry")?;
    let value = slice(scan)?;
    scan.expect(b']', "the end of the entry")?;
    Ok((first, value))
}

/// One value as it stands.
fn slice<'a>(scan: &mut Scan<'a>) -> Result<&'a str, Error> {
    scan.peek();
    let start = scan.at();
    skip(scan)?;
    Ok(scan.since(start))
}

/// A text that holds one value and nothing else.
fn whole(text: &[u8]) -> Result<&str, Error> {
    let text = utf8(text)?;
    let mut scan = Scan::new(text);
    skip(&mut scan)?;
    scan.end()?;
    Ok(text)
}

fn utf8(text: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(text).map_err(|error| match error.error_len() {
        None => Reason::Torn(text.len()),
        Some(_) => Reason::Syntax { at: error.valid_up_to(), wanted: "UTF-8" },
    })
}

fn whole_number(scan: &mut Scan<'_>) -> Result<u64, Reason> {
    let text = scan.number()?;
    text.parse().map_err(|_| unfit(format!("{text} is no count; write a whole number from 0 up")))
}

fn optional(scan: &mut Scan<'_>) -> Result<Option<String>, Reason> {
    if scan.peek() == Some(b'n') {
        return scan.word("null").map(|()| None);
    }
    Ok(Some(scan.string()?.into_owned()))
}

fn sum(text: &str) -> String {
    let mut digits = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn document() -> Document {
        let entry = |key: &'static str, value: &'static str| (Bytes::from(key), Bytes::from(value));
        Document {
            function: "vm".to_owned(),
            key: Some("host \"a\"".to_owned()),
            version: 7,
            fingerprint: Some("0123456789abcdef".repeat(4)),
            env: vec![
                entry("", r#"{"$ordereddict":[]}"#),
                entry(r#""count""#, "3"),
                entry(r#"{"$tuple":[1,"ü"]}"#, r#"{"$deque":{"maxlen":null,"items":[1.5,"\u0000"]}}"#),
            ],
        }
    }

    fn refusal(text: impl AsRef<[u8]>) -> String {
        Document::from_text(text.as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn a_document_reads_back() {
        for document in [document(), Document::default()] {
            let text = document.to_text().unwrap();
            assert_eq!(Document::from_text(text.as_bytes()).unwrap(), document, "{text}");
            // an editor's last line break
            assert_eq!(Document::from_text(format!("{text}\n").as_bytes()).unwrap(), document);
        }
        let text = document().to_text().unwrap();
        let head: Vec<_> = text.lines().take(4).collect();
        assert_eq!(head[1..], [r#""env":["#, r#"[{"$ordereddict":[]}],"#, r#"["count",3],"#]);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn a_document_that_is_cut_off_anywhere_is_refused() {
        let text = document().to_text().unwrap();
        for end in 0..text.len() {
            let error = Document::from_text(&text.as_bytes()[..end]).unwrap_err();
            assert!(matches!(error.reason(), Reason::Torn(_)), "{end}: {error}");
        }
        let unsigned = &text[..text.find(",\n\"sha256\"").unwrap()];
        for end in 0..unsigned.len() {
            refusal(&unsigned.as_bytes()[..end]);
        }
    }

    #[test]
    fn a_document_with_any_other_byte_is_refused() {
        let text = document().to_text().unwrap();
        for at in 0..text.len() {
            for change in [1, 0x20, 0xff] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= change;
                assert!(Document::from_text(&bytes).is_err(), "byte {at} changed by {change}");
            }
        }
    }

    #[test]
    fn a_document_written_by_hand_needs_no_checksum() {
        let text = r#" { "env" : [ [ "count" , 3 ] ] , "gaugefn_state" : 1 } "#;
        let document = Document::from_text(text.as_bytes()).unwrap();
        assert_eq!(document.env, [(Bytes::from("\"count\""), Bytes::from("3"))]);
        assert_eq!((document.version, document.function.as_str(), document.fingerprint), (0, "", None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = document().to_text().unwrap();
        assert_eq!(
            refusal(text.replace("\"count\",3", "\"count\",4")),
            "$.sha256: the checksum does not fit: the file was damaged, or edited; restore it, or if the edit was \
             meant, remove this key"
        );
        let (head, tail) = text.split_at(text.find(",\n\"sha256\"").unwrap());
        assert!(
            refusal(format!("{head}{},\"function\":1}}", tail.trim_end_matches('}')))
                .contains("'sha256' is the last key")
        );
        assert_eq!(
            refusal(r#"{"gaugefn_state":2,"whatever":{"#),
            "$.gaugefn_state: format 2 was written by a newer version, this one reads up to 1; run that version, or \
             begin with an empty state"
        );
        assert_eq!(
            refusal(r#"{"gaugefn_state":1,"env":[["a",{"$graph":[]}]]}"#),
            "$.env[0].$graph: unknown tag '$graph', written by a newer version; run that version, or delete this \
             state (a dict with such a key is written as {\"$dict\":[[key,value],…]})"
        );
        for (text, wanted) in [
            (
                "[]",
                "a state, which begins with '{\"gaugefn_state\":' was expected at byte 0; mend the text, or delete it",
            ),
            ("{}", "no state: it has no key 'gaugefn_state'; name a file that holds one"),
            (r#"{"gaugefn_state":0,"env":[]}"#, "$.gaugefn_state: format 0 does not exist; write 1"),
            (r#"{"gaugefn_state":1}"#, "the key 'env' is missing; write \"env\":[]"),
            (
                r#"{"gaugefn_state":1,"env":[],"extra":1}"#,
                "unknown key 'extra', known are: gaugefn_state, function, key, version, fingerprint, env, sha256",
            ),
            (r#"{"gaugefn_state":1,"gaugefn_state":1}"#, "$.gaugefn_state: is there twice; keep one of the two"),
            (
                r#"{"gaugefn_state":1,"env":[["a",1],["a",2]]}"#,
                "$.env[1]: the key \"a\" is there twice; keep one of the two",
            ),
            (
                r#"{"gaugefn_state":1,"fingerprint":"abc"}"#,
                "$.fingerprint: is neither null nor 64 hexadecimal digits; write null",
            ),
            (r#"{"gaugefn_state":1,"version":-1}"#, "$.version: -1 is no count; write a whole number from 0 up"),
            (
                "\u{feff}{}",
                "a state, which begins with '{\"gaugefn_state\":' was expected at byte 0; mend the text, or delete it",
            ),
        ] {
            assert_eq!(refusal(text), wanted, "{text}");
        }
        assert_eq!(refusal(b"{\xff}"), "UTF-8 was expected at byte 1; mend the text, or delete it");
    }

    #[test]
    fn a_half_that_is_no_text_is_not_written() {
        let with = |key: &'static [u8], value: &'static [u8]| Document {
            env: vec![(Bytes::from(key), Bytes::from(value))],
            ..Document::default()
        };
        for (key, value) in
            [(&b"\"a\""[..], &b""[..]), (b"\"a\"", b"1,2"), (b"a", b"1"), (b"1]", b"1"), (b"1", b"\"\xff\"")]
        {
            let error = with(key, value).to_text().unwrap_err();
            assert!(error.path().starts_with("$.env[0]"), "{error}");
        }
    }
}
