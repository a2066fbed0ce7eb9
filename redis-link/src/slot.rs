//! Where a Cluster keeps a key.

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

#[cfg(test)]
mod tests {
    use super::*;

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
