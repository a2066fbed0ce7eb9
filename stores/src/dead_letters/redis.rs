//! Dead letters in a Redis stream.
//!
//! One entry for each letter, with the fields `event`, `payload`, `original` (where the payload is not all that the source
//! had), `error`, `traceback`, `revision`, `attempts`, `origin` and `failed_at` (RFC 3339, UTC); those of which nothing is
//! known are left out. A letter's id is that of its entry. What is too large for one value of the server goes on in
//! `payload.2`, `payload.3` and so on, and so does `original`.
//!
//! Delivery: where source, state, sinks and letters are on one server, a letter is added in the same transaction that
//! acknowledges its event: it is there exactly once. Elsewhere one may be there twice after a lost answer. While the
//! server is away the engine tries again, and the event is not acknowledged.
//!
//! ```toml
//! [functions.vm.dead_letters]
//! use = "redis"
//! stream = "gaugefn:dead:{vm}"
//! ```

use std::any::Any;
use std::collections::HashMap;
use std::time::SystemTime;

use async_trait::async_trait;
use redis::streams::StreamRangeReply;
use redis_link::commit::{self, Write};
use redis_link::{Link, LinkError, Settings, Trouble};
use runtime_core::config::{Claim, Concern, Hold};
use runtime_core::contract::{DeadLetters, Domain, Filed, Letter};
use runtime_core::registry::Nothing;
use runtime_core::{Around, Entry, Fault, Kind, Site};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Id, SHARED, after_epoch, moment, stamp};

/// Options of the dead letters `redis`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The key of the stream. Without the option `gaugefn:dead:{NAME}`, NAME being the function's. Braces are literal: a
    /// hash tag keeps the letters in one slot with the streams of that tag.
    #[serde(default)]
    stream: Option<String>,
    /// How many letters are kept at least; older ones go, in whole blocks (`MAXLEN ~`). 0 keeps all: a letter that is
    /// dropped is an event that is lost.
    #[serde(default)]
    max_length: u64,
    /// Another server than that of `[redis]`.
    #[schemars(extend("x-secret" = true))]
    #[serde(default)]
    url: Option<String>,
}

/// The dead letters `redis`.
pub struct Redis {
    stream: String,
    max_length: u64,
    link: Link,
}

impl Kind for Redis {
    type Role = dyn DeadLetters;
    type Config = Config;
    const NAME: &'static str = "redis";
    const SUMMARY: &'static str = "a Redis stream";

    fn review(config: &Config) -> Vec<Concern> {
        let mut concerns = Vec::new();
        if config.stream.as_deref() == Some("") {
            concerns.push(Concern::new("stream", "empty; name the key or leave the option out"));
        }
        if let Some(url) = config.url.as_deref() {
            let complaints = Settings::default().complaints(Some(url));
            concerns.extend(complaints.into_iter().map(|(_, sentence)| Concern::new("url", sentence)));
        }
        concerns
    }

    fn claims(config: &Config, _: &Nothing, around: &Around<'_>) -> Vec<Claim> {
        let stream = stream(config, around.function);
        let server = around.table::<Settings>("redis").and_then(|redis| redis.server(config.url.as_deref()));
        let place = server.map(|server| format!("redis {server}"));
        let claim =
            |place: String| Claim::new("stream", Hold::Alone(SHARED), &place, &stream, format!("stream '{stream}'"));
        place.map(claim).into_iter().collect()
    }

    async fn build(config: Config, site: &Site<'_>) -> Result<Box<dyn DeadLetters>, Fault> {
        let settings: Settings = site.table("redis")?;
        let target = settings.resolve(config.url.as_deref()).map_err(|error| Fault::config(error.to_string()))?;
        Ok(Box::new(Self {
            stream: stream(&config, site.function),
            max_length: config.max_length,
            link: Link::new(target),
        }))
    }
}

inventory::submit!(Entry::of::<Redis>());

#[async_trait]
impl DeadLetters for Redis {
    async fn put(&self, letters: &[Letter]) -> Result<(), Fault> {
        if letters.is_empty() {
            return Ok(());
        }
        // together where every server takes them; what the server refuses in the middle would be there and come again
        if letters.iter().map(weight).sum::<usize>() <= PART {
            return self.add(self.writes(letters)).await.map_err(|error| fault(&error));
        }
        for letter in letters {
            self.squeeze(letter).await.map_err(|error| fault(&error))?;
        }
        Ok(())
    }

    /// Looks whether the key holds a stream: a transaction cannot add to anything else.
    async fn check(&self) -> Result<(), Fault> {
        let length = self.link.query::<u64>(redis::cmd("XLEN").arg(&self.stream)).await;
        match length {
            // who may only add need not be allowed to look
            Err(error) if !matches!(error.kind(), Trouble::Permission) => Err(fault(&error)),
            _ => Ok(()),
        }
    }

    /// A `Vec<redis_link::commit::Write>`.
    fn enlist(&self, letters: &[Letter]) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(self.writes(letters)))
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain::new(self.link.target().endpoint()))
    }

    fn keys(&self) -> Vec<String> {
        vec![self.stream.clone()]
    }

    fn describe(&self) -> String {
        format!("the stream '{}' of redis at {}", self.stream, self.link.target().place())
    }

    async fn list(&self, after: Option<&str>, max: usize) -> Result<Vec<Filed>, Fault> {
        let mut start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let (mut all, mut bytes, mut count) = (Vec::new(), 0, 1);
        while all.len() < max && bytes < PAGE {
            let asked = count.min(max - all.len());
            let page = self.range(&start, "+", asked).await?;
            let is_last = page.len() < asked;
            bytes += page.iter().map(|filed| weight(&filed.letter)).sum::<usize>();
            if let Some(last) = page.last() {
                start = format!("({}", last.id);
            }
            all.extend(page);
            if is_last {
                break;
            }
            // more at once as long as they are small
            count = if bytes < PAGE / 4 { 2 * count } else { 1 };
        }
        Ok(all)
    }

    async fn get(&self, id: &str) -> Result<Option<Filed>, Fault> {
        // the server refuses what is no id, which for whoever asks is a letter that is not there
        if Id::parse(id).is_none() {
            return Ok(None);
        }
        Ok(self.range(id, id, 1).await?.pop())
    }

    async fn remove(&self, ids: &[String]) -> Result<u64, Fault> {
        let ids: Vec<_> = ids.iter().filter(|id| Id::parse(id).is_some()).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        self.link.query(redis::cmd("XDEL").arg(&self.stream).arg(ids)).await.map_err(|error| fault(&error))
    }

    async fn feed_back(&self, letters: Vec<(String, Box<dyn Any + Send>)>) -> Result<u64, Fault> {
        let letters = letters.into_iter().map(|(id, part)| match part.downcast::<Vec<Write>>() {
            Ok(writes) => Ok((id, *writes)),
            Err(_) => Err(Fault::internal(format!("letter '{id}' is fed to a source that is not of redis"))),
        });
        let letters = letters.collect::<Result<Vec<_>, _>>()?;
        commit::feed_back(&self.link, &self.stream, &letters).await.map_err(|error| fault(&error))
    }
}

impl Redis {
    async fn add(&self, writes: Vec<Write>) -> Result<(), LinkError> {
        let mut pipeline = redis::pipe();
        writes.iter().for_each(|write| write.add_to(&mut pipeline));
        self.link.pipeline(&pipeline).await
    }

    /// A letter that may be too large: whole, in parts that every server takes, or as much of it as one takes.
    async fn squeeze(&self, letter: &Letter) -> Result<(), LinkError> {
        for form in [fields(letter), in_parts(letter), in_parts(&cut(letter))] {
            let write = Write::Add { stream: self.stream.clone(), max_length: self.max_length, fields: form };
            match self.add(vec![write]).await {
                Err(error) if error.kind() == Trouble::TooLarge => {}
                added => return added,
            }
        }
        Ok(())
    }

    /// What these letters come to on the server.
    fn writes(&self, letters: &[Letter]) -> Vec<Write> {
        let write = |letter: &Letter| Write::Add {
            stream: self.stream.clone(),
            max_length: self.max_length,
            fields: fields(letter),
        };
        letters.iter().map(write).collect()
    }

    /// In parts where they are more than the server gives at once.
    async fn range(&self, start: &str, end: &str, max: usize) -> Result<Vec<Filed>, Fault> {
        let (mut found, mut start, mut most) = (Vec::new(), start.to_owned(), max);
        while found.len() < max {
            let asked = most.min(max - found.len());
            let mut command = redis::cmd("XRANGE");
            command.arg(&self.stream).arg(&start).arg(end).arg("COUNT").arg(asked);
            let entries = match self.link.query::<StreamRangeReply>(&command).await {
                Ok(reply) => reply.ids,
                Err(error) if asked > 1 && (error.is_cut() || error.is_late()) => {
                    most = asked / 2;
                    continue;
                }
                Err(error) => return Err(fault(&error)),
            };
            let is_last = entries.len() < asked;
            if let Some(last) = entries.last() {
                start = format!("({}", last.id);
            }
            for entry in entries {
                found.push(self.read(entry.id, entry.map)?);
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// The letter of an entry. The payload is all that it cannot do without: somebody may have added one by hand.
    fn read(&self, id: String, fields: HashMap<String, redis::Value>) -> Result<Filed, Fault> {
        let part = |name: &str| -> Option<Vec<u8>> { redis::from_redis_value(fields.get(name)?.clone()).ok() };
        let bytes = |name: &str| -> Option<Vec<u8>> {
            let mut all = part(name)?;
            (2..).map_while(|number| part(&format!("{name}.{number}"))).for_each(|more| all.extend(more));
            Some(all)
        };
        let text = |name: &str| bytes(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let Some(payload) = bytes("payload") else {
            return Err(Fault::config(format!(
                "entry {id} of the stream '{}' is no dead letter, as it has no field 'payload': remove it, or name \
                 another stream",
                self.stream
            )));
        };
        let letter = Letter {
            event: text("event").unwrap_or_default(),
            payload: payload.into(),
            original: text("original"),
            error: text("error").unwrap_or_default(),
            report: text("traceback"),
            revision: text("revision"),
            attempts: text("attempts").and_then(|text| text.parse().ok()).unwrap_or_default(),
            origin: text("origin").unwrap_or_default(),
            failed_at: text("failed_at")
                .and_then(|text| moment(&text))
                .unwrap_or_else(|| Id::parse(&id).map_or(SystemTime::UNIX_EPOCH, |id| after_epoch(id.millis))),
        };
        Ok(Filed { id, letter })
    }
}

/// The key of the stream.
fn stream(config: &Config, function: &str) -> String {
    config.stream.clone().unwrap_or_else(|| format!("gaugefn:dead:{{{function}}}"))
}

/// Names and values of the entry of a letter.
fn fields(letter: &Letter) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Letter { event, payload, original, error, report, revision, attempts, origin, failed_at } = letter;
    let mut fields: Vec<(&str, Vec<u8>)> = vec![("event", event.clone().into()), ("payload", payload.to_vec())];
    fields.extend(original.clone().map(|original| ("original", original.into())));
    fields.push(("error", error.clone().into()));
    fields.extend(report.clone().map(|report| ("traceback", report.into())));
    fields.extend(revision.clone().map(|revision| ("revision", revision.into())));
    fields.push(("attempts", attempts.to_string().into()));
    fields.push(("origin", origin.clone().into()));
    fields.push(("failed_at", stamp(*failed_at).into()));
    fields.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect()
}

/// Bytes that are read at once, about.
const PAGE: usize = 8 << 20;

/// Every server takes a value of this size, and no other setting is lower.
const PART: usize = 512 << 10;

/// As much of a letter as is kept where the server takes no whole one.
const REST: usize = 64 << 10;

/// Bytes of a letter, about.
fn weight(letter: &Letter) -> usize {
    let texts = [&letter.original, &letter.report].into_iter().flatten().chain([&letter.error]);
    letter.payload.len() + texts.map(String::len).sum::<usize>()
}

/// The same with values of some hundred kilobytes, of which one that goes on has several fields.
fn in_parts(letter: &Letter) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut parts = Vec::new();
    for (name, value) in fields(letter) {
        if value.is_empty() {
            parts.push((name, value));
            continue;
        }
        for (number, part) in value.chunks(PART).enumerate() {
            let mut name = name.clone();
            if number > 0 {
                name.extend(format!(".{}", number + 1).bytes());
            }
            parts.push((name, part.to_vec()));
        }
    }
    parts
}

/// The beginning of a letter, whose error says so.
fn cut(letter: &Letter) -> Letter {
    let begin = |text: &String| text.chars().take(REST / 4).collect::<String>();
    let error = format!(
        "of its payload of {} bytes only the first {REST} are kept, as the server of the dead letters takes no more; {}",
        letter.payload.len(),
        begin(&letter.error)
    );
    let payload = letter.payload.slice(..letter.payload.len().min(REST));
    Letter { payload, original: None, error, report: letter.report.as_ref().map(begin), ..letter.clone() }
}

/// Everything but a wrong setting may pass; until then events are not given up.
fn fault(error: &LinkError) -> Fault {
    match error.kind() {
        Trouble::Config => Fault::config(error.to_string()),
        Trouble::TooLarge => Fault::of_backend(error).permanent(),
        _ => Fault::of_backend(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(size: usize) -> Letter {
        Letter {
            event: "1-0".to_owned(),
            payload: vec![b'x'; size].into(),
            original: Some("y".repeat(2 * PART)),
            error: "ValueError: no".to_owned(),
            report: None,
            revision: None,
            attempts: 1,
            origin: String::new(),
            failed_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn no_part_is_too_large_for_any_server() {
        let parts = in_parts(&letter(PART + 1));
        let names: Vec<_> = parts.iter().map(|(name, value)| (String::from_utf8_lossy(name), value.len())).collect();
        let wanted = [("payload", PART), ("payload.2", 1), ("original", PART), ("original.2", PART), ("error", 14)];
        let found: Vec<_> = names[1..6].iter().map(|(name, length)| (name.as_ref(), *length)).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_cut_off_is_said() {
        let cut = cut(&letter(3_000_000));
        assert_eq!((cut.payload.len(), &cut.original), (65_536, &None));
        assert_eq!(
            cut.error,
            "of its payload of 3000000 bytes only the first 65536 are kept, as the server of the dead letters takes no \
             more; ValueError: no"
        );
    }
}
