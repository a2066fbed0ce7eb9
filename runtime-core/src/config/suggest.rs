//! Did you mean: the known name nearest to a wrong one.

/// The nearest of `known`, if it is near enough to be a slip of the fingers: one edit for names up to four letters,
/// two up to eight, three beyond. A transposition counts as one.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = match wrong.chars().count() {
        0..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    known
        .iter()
        .map(|name| (strsim::osa_distance(&wrong.to_lowercase(), name), *name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_mended_and_other_words_are_not() {
        assert_eq!(nearest("perod", &["key", "period"]), Some("period"));
        assert_eq!(nearest("ekyy", &["key", "period"]), None);
        assert_eq!(nearest("eky", &["key", "period"]), Some("key"));
        assert_eq!(nearest("wathc", &["paths", "watch"]), Some("watch"));
        assert_eq!(nearest("", &["key"]), None);
    }
}
