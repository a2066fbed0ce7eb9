//! TOML token by token: its parser keeps all of them, and a character can be one.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::{MOST_VALUES, TOO_MANY, Trouble};

/// Far more than the values need, with white space, comments and names of several parts.
const MOST_TOKENS: usize = 8 * MOST_VALUES;

/// Refuses what would take too much. Equal keys and depth are left to the parser proper.
pub(super) fn judge(text: &str) -> Result<(), Trouble> {
    let (mut tokens, mut values) = (0, 0);
    for token in Source::new(text).lex() {
        tokens += 1;
        // each value has one of these beside it
        values +=
            usize::from(matches!(token.kind(), TokenKind::Equals | TokenKind::Comma | TokenKind::LeftSquareBracket));
        if values > MOST_VALUES || tokens > MOST_TOKENS {
            return Err(Trouble::Refused(TOO_MANY.to_owned()));
        }
    }
    Ok(())
}
