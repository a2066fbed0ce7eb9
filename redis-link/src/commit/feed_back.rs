//! Letters that go back to where they came from.

use std::sync::LazyLock;

use redis::Script;

use super::{Write, pairs};
use crate::fault::LinkError;
use crate::link::Link;

static FEED_BACK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("feed_back.lua")));

/// Letters of one script: each may be as large as an event, and the server does nothing else meanwhile.
const AT_ONCE: usize = 100;

/// Removes entries of `dead_stream`, by their ids, and adds what belongs to each: one that is gone already adds nothing,
/// so that a repetition after a lost answer is harmless. How many were there. In a Cluster all streams must share a slot.
///
/// # Errors
/// The server is away: some may have been fed. A key holds no stream, this user may not remove or add, or a write is none of [`Write::Add`], or has too
/// many fields: nothing of the 100 letters around it is.
pub async fn feed_back(link: &Link, dead_stream: &str, letters: &[(String, Vec<Write>)]) -> Result<u64, LinkError> {
    let mut fed = 0;
    for letters in letters.chunks(AT_ONCE) {
        let mut call = FEED_BACK.key(dead_stream);
        call.arg(letters.len());
        for (id, writes) in letters {
            call.arg(id).arg(writes.len());
            for write in writes {
                let Write::Add { stream, fields, .. } = write else {
                    return Err(LinkError::config(format!("letter {id} has a write that adds to no stream")));
                };
                write.fits()?;
                call.key(stream);
                pairs(&mut call, fields);
            }
        }
        let answer: Vec<String> = link.script(&call, "XDEL", dead_stream).await?;
        match &answer[..] {
            [word, count] if word == "fed" => fed += count.parse().unwrap_or(0),
            [word, command, key] if word == "denied" => return Err(LinkError::denied(link.target(), command, key)),
            [_, key, wanted] => return Err(LinkError::wrong_type(link.target(), key, wanted)),
            _ => {}
        }
    }
    Ok(fed)
}
