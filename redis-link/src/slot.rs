//! Where a Cluster keeps a key.

use crate::fault::{LinkError, Trouble};
use crate::link::Link;

/// The slot of a key, 0 to 16383: of its hash tag, the text between the first `{` and the next `}`, where that is not
/// empty. A transaction can only span keys of one slot.
#[must_use]
pub fn slot(key: &str) -> u16 {
    let tag = key.find('{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.find('}').filter(|length| *length > 0).map(|length| &rest[..length])
    });
    // CRC-16/XMODEM, as the Cluster's specification has it
    let crc = tag.unwrap_or(key).bytes().fold(0_u16, |crc, byte| {
        (0..8)
            .fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    crc % 16_384
}

/// The first key and one that lies in another slot; None where one transaction can span all of them.
#[must_use]
pub fn apart(keys: &[String]) -> Option<(&str, &str)> {
    let first = keys.first()?;
    let other = keys.iter().find(|key| slot(key) != slot(first))?;
    Some((first, other))
}

/// Whether the server belongs to a Cluster. A user who may not ask is told no.
///
/// # Errors
/// As for [`Link::query`].
pub async fn is_cluster(link: &Link) -> Result<bool, LinkError> {
    let info: String = match link.query(redis::cmd("INFO").arg("cluster")).await {
        Err(error) if error.kind() == Trouble::Permission => return Ok(false),
        answer => answer?,
    };
    Ok(info.lines().any(|line| line.trim_end() == "cluster_enabled:1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_lie_apart_are_named() {
        let keys = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(apart(&[]), None);
        assert_eq!(apart(&keys(&["{vm}:a", "{vm}:b", "vm"])), None);
        assert_eq!(apart(&keys(&["{vm}:a", "vm", "b", "c"])), Some(("{vm}:a", "b")));
    }

    /// Values of CLUSTER KEYSLOT.
    #[test]
    fn slots_are_those_of_the_server() {
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("{foo}:bar"), 12_182);
        assert_eq!(slot("a{foo}{bar}"), 12_182);
        assert_eq!(slot("{}foo"), slot("{}foo"));
        assert_ne!(slot("{}foo"), slot("foo"));
        assert_ne!(slot("foo{"), slot("foo"));
    }
}
