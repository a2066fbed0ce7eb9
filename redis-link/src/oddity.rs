//! What is seldom meant in a value that somebody copied: white space at its ends, line ends, quotes, marks.

/// What is odd about a text, as it goes on after its name, without a part of it: `ends with white space`.
#[must_use]
pub fn oddity(text: &str) -> Option<&'static str> {
    let quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    let (begins, ends) = (text.starts_with(char::is_whitespace), text.ends_with(char::is_whitespace));
    if text.starts_with(MARK) {
        Some("begins with a byte-order mark")
    } else if text.ends_with(['\n', '\r']) {
        Some("ends with a line end")
    } else if begins && ends {
        Some("begins and ends with white space")
    } else if begins {
        Some("begins with white space")
    } else if ends {
        Some("ends with white space")
    } else if quoted('"') || quoted('\'') {
        Some("is in quotes")
    } else if text.contains(['\n', '\r']) {
        Some("has a line end inside")
    } else if text.contains(|c: char| c.is_control() || c == '\u{a0}' || is_invisible(c)) {
        Some("has a character that cannot be seen")
    } else {
        None
    }
}

/// Some editors put it in front of a text.
const MARK: char = '\u{feff}';

/// Characters without a width, which pages and chats leave in what is copied from them.
fn is_invisible(c: char) -> bool {
    matches!(c, MARK | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}')
}

/// Without what stands around a name or an address and can never belong to it.
pub(crate) fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_is_named() {
        for (text, said) in [
            ("s3cret", None),
            ("two words", None),
            ("it's \"so\"", None),
            ("\"", None),
            ("", None),
            ("x ", Some("ends with white space")),
            ("x\t", Some("ends with white space")),
            ("x\u{a0}", Some("ends with white space")),
            (" x", Some("begins with white space")),
            (" x ", Some("begins and ends with white space")),
            ("x\n", Some("ends with a line end")),
            ("x\r", Some("ends with a line end")),
            ("\u{feff}x", Some("begins with a byte-order mark")),
            ("\"x\"", Some("is in quotes")),
            ("'x'", Some("is in quotes")),
            ("x\ny", Some("has a line end inside")),
            ("x\u{200b}y", Some("has a character that cannot be seen")),
            ("x\u{0}y", Some("has a character that cannot be seen")),
            ("x\u{a0}y", Some("has a character that cannot be seen")),
        ] {
            assert_eq!(oddity(text), said, "{text:?}");
        }
    }

    #[test]
    fn an_address_loses_what_stands_around_it() {
        assert_eq!(bare(" \u{feff}cache\u{a0}\r\n"), "cache");
        assert_eq!(bare("\"cache\""), "\"cache\"");
    }
}
