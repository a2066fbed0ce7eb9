//! Letters that go back to where they came from.

use std::sync::LazyLock;

use redis::Script;

use super::{LARGEST, Write, pairs, wide};
use crate::fault::LinkError;
use crate::link::Link;
use crate::size::Size;

static FEED_BACK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("feed_back.lua")));

/// Letters of one script, and bytes: the server does nothing else meanwhile.
const AT_ONCE: usize = 100;
const AT_ONCE_BYTES: usize = 8 << 20;

/// A letter by its id, with what is added for it.
type Fed = (String, Vec<Write>);

/// Removes entries of `dead_stream`, by their ids, and adds what belongs to each: one that is gone already adds nothing,
/// so that a repetition after a lost answer is harmless. How many were there. In a Cluster all streams must share a slot.
///
/// # Errors
/// The server is away: some may have been fed. A key holds no stream, or this user may not remove or add: some may have
/// been fed as well. A write is none of [`Write::Add`], or has no field: none is.
pub async fn feed_back(link: &Link, dead_stream: &str, letters: &[Fed]) -> Result<u64, LinkError> {
    for (id, writes) in letters {
        for write in writes {
            match write {
                Write::Add { fields, .. } if fields.len() > LARGEST => {}
                Write::Add { .. } => write.fits()?,
                _ => return Err(LinkError::config(format!("letter {id} has a write that adds to no stream"))),
            }
        }
    }
    let mut fed = 0;
    let mut rest = letters;
    while let Some(first) = rest.first() {
        let count = together(rest);
        let (now, later) = rest.split_at(count.max(1));
        fed += match count {
            0 => u64::from(wide::feed(link, dead_stream, &first.0, &first.1).await?),
            _ => at_once(link, dead_stream, now).await?,
        };
        rest = later;
    }
    Ok(fed)
}

/// How many of the letters go into one script; none where the first one has too many fields for any.
fn together(letters: &[Fed]) -> usize {
    let mut bytes = 0;
    let fits = |(_, writes): &&Fed| {
        let is_wide = |write: &Write| matches!(write, Write::Add { fields, .. } if fields.len() > LARGEST);
        let fits = bytes < AT_ONCE_BYTES && !writes.iter().any(is_wide);
        bytes += writes.iter().fold(Size::default(), |size, write| write.measure(size)).bytes();
        fits
    };
    letters.iter().take(AT_ONCE).take_while(fits).count()
}

async fn at_once(link: &Link, dead_stream: &str, letters: &[Fed]) -> Result<u64, LinkError> {
    let mut call = FEED_BACK.key(dead_stream);
    let mut size = Size::default();
    call.arg(letters.len());
    for (id, writes) in letters {
        call.arg(id).arg(writes.len());
        for write in writes {
            size = write.measure(size);
            if let Write::Add { stream, fields, .. } = write {
                call.key(stream);
                pairs(&mut call, fields);
            }
        }
    }
    let answer: Vec<String> = match link.patient(size).script(&call, "XDEL", dead_stream).await {
        Ok(answer) => answer,
        Err(error) => return Err(link.weighed(size, error).await),
    };
    match &answer[..] {
        [word, count] if word == "fed" => Ok(count.parse().unwrap_or(0)),
        [word, command, key] if word == "denied" => Err(LinkError::denied(link.target(), command, key)),
        [_, key, wanted] => Err(LinkError::wrong_type(link.target(), key, wanted)),
        _ => Ok(0),
    }
}
