//! What a program writes over: text before a carriage return is text, unless it is a state of something that goes on.

/// Whether `old` is a passing state, of a progress bar say, that `new` was written over: nothing but numbers, signs and
/// bars have changed, it was wiped out, or it shows nothing. Text in the place of another text is none.
#[must_use]
pub fn passing(old: &[u8], new: &[u8]) -> bool {
    match (letters(old), letters(new)) {
        (Some(old), Some(new)) => old == new,
        // spaces, or what erases a line of a terminal
        _ => true,
    }
}

/// The letters of a text, sorted, as `1.5s/it` follows `2it/s`; none where it shows nothing.
fn letters(text: &[u8]) -> Option<Vec<char>> {
    let text = String::from_utf8_lossy(text);
    let (mut letters, mut shows, mut rest) = (Vec::new(), false, text.chars());
    while let Some(letter) = rest.next() {
        match letter {
            // a control sequence: up to its final letter
            '\u{1b}' => drop(rest.find(|letter| !"[0123456789;?".contains(*letter))),
            letter if letter.is_whitespace() => {}
            letter => {
                shows = true;
                letters.extend(Some(letter).filter(|letter| letter.is_alphabetic()));
            }
        }
    }
    letters.sort_unstable();
    shows.then_some(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_a_bar_pass_and_texts_stay() {
        for (old, new) in [
            ("  0%|          | 0/100 [00:00<?, ?it/s]", " 10%|█         | 10/100 [00:01<00:09, 9.95it/s]"),
            ("  9%|▉         | 9/100 [00:01<00:09, 2.00it/s]", " 10%|█         | 10/100 [00:11<00:09, 1.05s/it]"),
            ("10%", "20%"),
            ("99", ""),
            ("  ", "x"),
            ("downloading 1.5 MB", "                  "),
            ("working", "\u{1b}[2K"),
            ("\u{1b}[32m10 of 20\u{1b}[0m", "\u{1b}[1;31m11 of 20\u{1b}[0m"),
        ] {
            assert!(passing(old.as_bytes(), new.as_bytes()), "{old:?} {new:?}");
        }
        for (old, new) in [("boom", "Traceback"), ("loading a.csv", "loading b.csv"), ("Epoch 1", "1/3")] {
            assert!(!passing(old.as_bytes(), new.as_bytes()), "{old:?} {new:?}");
        }
    }
}
