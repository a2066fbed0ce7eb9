//! Compares answers and says where they differ.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

use runtime_core::contract::Fault;
use runtime_core::stdout;

use super::answer::Answer;
use super::difference::Differences;
use super::json::{Json, quoted};
use crate::args::ReplayFormat;

/// Letters of a value that are shown to people; both fit into two lines of a terminal then.
const SHOWN: usize = 80;

/// What was seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) events: u64,
    pub(super) different: u64,
    /// Failed in both versions, which is no difference.
    pub(super) failed: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, verb) =
            (if self.events == 1 { "" } else { "s" }, if self.different == 1 { "differs" } else { "differ" });
        write!(f, "{} event{s}, {} {verb}", self.events, self.different)?;
        if self.failed > 0 {
            write!(f, ", {} failed in both", self.failed)?;
        }
        Ok(())
    }
}

/// Where differences are said.
pub(super) struct Report {
    to: Arc<File>,
    format: ReplayFormat,
    count: Count,
}

impl Report {
    pub(super) fn new(to: Arc<File>, format: ReplayFormat) -> Self {
        Self { to, format, count: Count::default() }
    }

    pub(super) const fn count(&self) -> Count {
        self.count
    }

    /// Compares what both versions made of an event.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) fn event(&mut self, number: u64, result: &Answer, against: &Answer) -> Result<(), Fault> {
        self.count.events += 1;
        if let (Answer::Failed(_), Answer::Failed(_)) = (result, against) {
            self.count.failed += 1;
        }
        let Some(text) = difference(self.format, number, result, against) else { return Ok(()) };
        self.count.different += 1;
        stdout::write(&self.to, text.as_bytes())
            .map_err(|unwritten| Fault::internal("standard output cannot be written").caused_by(unwritten.error))
    }
}

/// What one version has at a place.
enum Seen<'a> {
    Absent,
    Json(&'a Json<'a>),
    /// A result that is no JSON, which a native function may give.
    Other(&'a str),
    Failed(&'a str),
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Json(json) => f.write_str(&shortened(json.text)),
            Self::Other(text) => write!(f, "no json ({})", shortened(text)),
            Self::Failed(reason) => write!(f, "failed ({})", one_line(reason)),
        }
    }
}

impl Seen<'_> {
    /// As a member of an object, with the comma before it.
    fn member(&self, name: &str) -> String {
        match self {
            Self::Absent => String::new(),
            Self::Json(json) => {
                let mut text = format!(",\"{name}\":");
                json.strict(&mut text);
                text
            }
            Self::Other(text) => format!(",\"{name}_text\":{}", quoted(text)),
            Self::Failed(reason) => format!(",\"{name}_error\":{}", quoted(reason)),
        }
    }
}

/// A path, the result there, and what the other version has.
type Place<'a> = (String, Seen<'a>, Seen<'a>);

/// What is said of an event; nothing where both answers are equal.
fn difference(format: ReplayFormat, number: u64, result: &Answer, against: &Answer) -> Option<String> {
    if result == against || matches!((result, against), (Answer::Failed(_), Answer::Failed(_))) {
        return None;
    }
    let texts = [result, against].map(|answer| match answer {
        Answer::Result(bytes) => String::from_utf8_lossy(bytes),
        Answer::Failed(reason) => reason.into(),
        Answer::Ready | Answer::Refused(_) => "".into(),
    });
    let json =
        |n: usize, answer: &Answer| matches!(answer, Answer::Result(_)).then(|| Json::parse(&texts[n])).flatten();
    let parsed = [json(0, result), json(1, against)];
    let (places, more) = if let [Some(one), Some(other)] = &parsed {
        let found = Differences::between(one, other);
        let seen = |json: Option<_>| json.map_or(Seen::Absent, Seen::Json);
        let named = found.named.into_iter().map(|place| (place.path, seen(place.result), seen(place.against)));
        (named.collect(), found.more)
    } else {
        let seen = |n: usize, answer: &Answer| match (&parsed[n], answer) {
            (Some(json), _) => Seen::Json(json),
            (None, Answer::Failed(_)) => Seen::Failed(&texts[n]),
            (None, _) => Seen::Other(&texts[n]),
        };
        (vec![("$".to_owned(), seen(0, result), seen(1, against))], 0)
    };
    match format {
        _ if places.is_empty() => None,
        ReplayFormat::Text => Some(for_people(number, &places, more)),
        ReplayFormat::Json => Some(for_machines(number, &places, more)),
    }
}

fn for_people(number: u64, places: &[Place<'_>], more: usize) -> String {
    let mut text = format!("event {number}\n");
    for (path, result, against) in places {
        text.push_str(&format!("  {path}: {result} against {against}\n"));
    }
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

fn for_machines(number: u64, places: &[Place<'_>], more: usize) -> String {
    let objects: Vec<_> = places
        .iter()
        .map(|(path, result, against)| {
            format!("{{\"path\":{}{}{}}}", quoted(path), result.member("result"), against.member("against"))
        })
        .collect();
    format!("{{\"event\":{number},\"differences\":[{}],\"more\":{more}}}\n", objects.join(","))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => one_line(&text[..end]) + "…",
        None => one_line(text),
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn result(text: &str) -> Answer {
        Answer::Result(text.as_bytes().to_vec())
    }

    fn said(one: &Answer, other: &Answer) -> Option<String> {
        difference(ReplayFormat::Text, 7, one, other)
    }

    #[test]
    fn equal_answers_are_not_mentioned() {
        for (one, other) in [
            (result("{\"a\": 1.0, \"b\": NaN}"), result("{\"b\":NaN,\"a\":1}")),
            (result("no json"), result("no json")),
            (Answer::Failed("a".to_owned()), Answer::Failed("b".to_owned())),
        ] {
            assert_eq!(said(&one, &other), None);
        }
    }

    #[test]
    fn a_difference_for_people_and_for_machines() {
        let long = format!("{{\"t\": \"{}\", \"n\": NaN}}", "x".repeat(200));
        let (one, other) = (result(&long), result("{\"t\": 1, \"m\": [2]}"));
        let people = format!(
            "event 7\n  $.m: absent against [2]\n  $.n: NaN against absent\n  $.t: \"{}… against 1\n",
            "x".repeat(SHOWN - 1)
        );
        assert_eq!(said(&one, &other).unwrap(), people);
        let machines = format!(
            "{{\"event\":7,\"differences\":[{{\"path\":\"$.m\",\"against\":[2]}},\
             {{\"path\":\"$.n\",\"result\":\"NaN\"}},\
             {{\"path\":\"$.t\",\"result\":\"{}\",\"against\":1}}],\"more\":0}}\n",
            "x".repeat(200)
        );
        assert_eq!(difference(ReplayFormat::Json, 7, &one, &other).unwrap(), machines);
    }

    #[test]
    fn a_failure_and_a_text_that_is_no_json() {
        let failed = Answer::Failed("ValueError: no\nluck".to_owned());
        let line = "event 7\n  $: null against failed (ValueError: no luck)\n";
        assert_eq!(said(&result("null"), &failed).as_deref(), Some(line));
        assert_eq!(
            difference(ReplayFormat::Json, 7, &failed, &result("oh")).unwrap(),
            "{\"event\":7,\"differences\":[{\"path\":\"$\",\"result_error\":\"ValueError: no\\nluck\",\
             \"against_text\":\"oh\"}],\"more\":0}\n"
        );
        assert_eq!(said(&result("[1]"), &result("[1")).unwrap(), "event 7\n  $: [1] against no json ([1)\n");
    }

    #[test]
    fn the_last_line_counts() {
        let line = |events, different, failed| Count { events, different, failed }.to_string();
        assert_eq!(line(2, 1, 0), "2 events, 1 differs");
        assert_eq!(line(1, 0, 1), "1 event, 0 differ, 1 failed in both");
    }
}
