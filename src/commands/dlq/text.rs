//! Letters as text for people.

use std::fmt::Write;

use runtime_core::contract::Filed;
use stores::dead_letters::stamp;

use super::super::visible;

/// Id, when, attempts, origin, the error's first line.
pub(super) type Row = [String; 5];

const HEAD: [&str; 5] = ["ID", "FAILED", "ATTEMPTS", "ORIGIN", "ERROR"];

/// Letters of an error that fit into a line of most terminals beside the rest.
const ERROR: usize = 100;

pub(super) fn row(filed: &Filed) -> Row {
    let letter = &filed.letter;
    let mut error: String = visible(letter.error.lines().next().unwrap_or_default());
    if let Some((cut, _)) = error.char_indices().nth(ERROR) {
        error.truncate(cut);
        error.push('…');
    }
    [filed.id.clone(), stamp(letter.failed_at), letter.attempts.to_string(), visible(&letter.origin), error]
}

/// A table with its columns as wide as need be.
pub(super) fn rows(rows: &[Row]) -> String {
    let widths = [0, 1, 2, 3, 4].map(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    });
    let head = HEAD.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// All that is known of a letter.
pub(super) fn printed(filed: &Filed) -> String {
    let letter = &filed.letter;
    let mut text = String::new();
    let facts = [
        ("id", filed.id.clone()),
        ("event", letter.event.clone()),
        ("failed at", stamp(letter.failed_at)),
        ("attempts", letter.attempts.to_string()),
        ("origin", letter.origin.clone()),
        ("revision", letter.revision.clone().unwrap_or_else(|| "none".to_owned())),
        ("error", letter.error.clone()),
    ];
    for (name, fact) in facts {
        // a String takes whatever is written
        let _ = writeln!(text, "{name:<10} {}", visible(&fact).replace('\n', "\n           "));
    }
    match str::from_utf8(&letter.payload) {
        Ok(payload) => block(&mut text, "payload", payload),
        Err(_) => {
            block(&mut text, "payload, which is no UTF-8", &letter.payload.escape_ascii().to_string());
        }
    }
    if let Some(original) = &letter.original {
        block(&mut text, "as the source had it", original);
    }
    if let Some(report) = &letter.report {
        block(&mut text, "traceback", report);
    }
    text
}

/// Several lines below their name.
fn block(text: &mut String, name: &str, content: &str) {
    let _ = writeln!(text, "{name}");
    for line in visible(content).lines() {
        let _ = writeln!(text, "    {line}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use runtime_core::contract::Letter;

    use super::*;

    fn filed() -> Filed {
        let letter = Letter {
            event: "5-0".to_owned(),
            payload: "{\"n\": \"\u{1b}[31m\"}".into(),
            original: None,
            error: "ValueError: no\nat all".to_owned(),
            report: Some("Traceback:\n  line 1".to_owned()),
            revision: None,
            attempts: 4,
            origin: "redis_stream events".to_owned(),
            failed_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_466_129_023),
        };
        Filed { id: "7-0".to_owned(), letter }
    }

    #[test]
    fn a_table_has_a_line_for_each() {
        let mut long = filed();
        long.letter.error = "é".repeat(200);
        let table = rows(&[row(&filed()), row(&long)]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "ID   FAILED                    ATTEMPTS  ORIGIN               ERROR");
        assert_eq!(lines[1], "7-0  2026-11-23T20:35:29.023Z  4         redis_stream events  ValueError: no");
        assert!(lines[2].ends_with("é…") && lines.len() == 3, "{table}");
    }

    #[test]
    fn nothing_of_a_payload_reaches_the_terminal() {
        let text = printed(&filed());
        assert!(!text.contains('\u{1b}'), "{text}");
        let wanted = "error      ValueError: no\n           at all\npayload\n    {\"n\": \"\\u{1b}[31m\"}\ntraceback\n    \
                      Traceback:\n      line 1\n";
        assert!(text.ends_with(wanted), "{text}");
        let mut binary = filed();
        binary.letter.payload = vec![0xff, b'a'].into();
        assert!(printed(&binary).contains("payload, which is no UTF-8\n    \\xffa\n"));
    }
}
