//! The name of a crate, from the name of its folder.

use super::Refusal;

/// What no crate of a function can be called: words of the language, crates of its own library, and what the function
/// itself depends on.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gaugefn_sdk",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "serde_json",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// `My vm` is `my-vm`.
///
/// # Errors
/// Nothing is left that could be a crate's name.
pub(super) fn package(folder: &str) -> Result<String, Refusal> {
    let letters = folder.chars().map(|letter| match letter {
        '_' => '_',
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
        _ => ' ',
    });
    let words = letters.collect::<String>();
    let name = words.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let name = name.trim_matches('_');
    if !name.starts_with(|letter: char| letter.is_ascii_lowercase()) {
        return Err(Refusal::usage(format!(
            "no rust crate can be named after the folder '{folder}'; name one that begins with a letter of a to z"
        )));
    }
    if TAKEN.contains(&name.replace('-', "_").as_str()) {
        return Err(Refusal::usage(format!(
            "no rust crate can be named after the folder '{folder}': '{name}' means something else already; \
             name another folder"
        )));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_crate_the_name() {
        for (folder, name) in [
            ("vm", "vm"),
            ("My VM", "my-vm"),
            ("vm-1", "vm-1"),
            ("a_b", "a_b"),
            ("--a..b--", "a-b"),
            ("_vm", "vm"),
            ("größe", "gr-e"),
            ("type-2", "type-2"),
        ] {
            assert_eq!(package(folder).unwrap(), name, "{folder}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for folder in ["1", "2nd", "日本", "-", "_", "9-vm"] {
            let said = package(folder).unwrap_err().message;
            let wanted = format!(
                "no rust crate can be named after the folder '{folder}'; name one that begins with a letter of a to z"
            );
            assert_eq!(said, wanted);
        }
        for folder in ["fn", "Test", "proc-macro", "serde", "gaugefn-sdk"] {
            assert!(package(folder).unwrap_err().message.ends_with("name another folder"), "{folder}");
        }
    }
}
