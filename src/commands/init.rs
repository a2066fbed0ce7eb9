//! `gaugefn init`: a folder with a new function, its tests, and events to try it with.

use std::path::Path;

use super::{Context, say};
use crate::args::{InitArgs, Language};

mod dependency;
mod naming;
mod place;

use place::Place;

/// Why no function was made: what is said, and the exit code.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    message: String,
    code: u8,
}

impl Refusal {
    /// The command line asks for what cannot be.
    fn usage(message: String) -> Self {
        Self { message, code: crate::USAGE }
    }
}

/// What a new function consists of.
struct Plan {
    language: &'static str,
    /// Path in the new folder and text.
    files: Vec<(&'static str, String)>,
    /// What to do next, in the new folder.
    commands: Vec<String>,
}

pub(super) fn init(context: &Context, args: &InitArgs) -> u8 {
    match make(args) {
        Ok(report) => context.print(&report),
        Err(refusal) => {
            say(&format!("gaugefn: {}", refusal.message));
            refusal.code
        }
    }
}

/// Makes the function; what was made, and the commands that go on.
fn make(args: &InitArgs) -> Result<String, Refusal> {
    let place = Place::find(&args.dir)?;
    let plan = match (args.lang, &args.sdk) {
        (Language::Python, None) => python(),
        (Language::Python, Some(sdk)) => {
            let message = format!("--sdk '{}' is for --lang rust; leave it out", sdk.display());
            return Err(Refusal::usage(message));
        }
        (Language::Rust, sdk) => {
            let package = naming::package(&place.name())?;
            rust(&package, &dependency::on_sdk(sdk.as_deref(), place.path())?)
        }
    };
    place.fill(&plan.files)?;
    Ok(report(&args.dir, &plan))
}

fn python() -> Plan {
    let files = vec![
        ("main.py", include_str!("init/templates/python/main.py").to_owned()),
        ("test_main.py", include_str!("init/templates/python/test_main.py").to_owned()),
        ("events.jsonl", include_str!("init/templates/events.jsonl").to_owned()),
        ("README.md", include_str!("init/templates/python/README.md").to_owned()),
        (".gitignore", include_str!("init/templates/python/gitignore").to_owned()),
    ];
    let commands = ["gaugefn invoke main.py --event events.jsonl", "gaugefn dev main.py", "python3 -m unittest"];
    Plan { language: "Python", files, commands: commands.map(str::to_owned).to_vec() }
}

fn rust(package: &str, sdk: &str) -> Plan {
    let library = format!("lib{}.so", package.replace('-', "_"));
    let named =
        |template: &str| template.replace("@PACKAGE@", package).replace("@LIBRARY@", &library).replace("@SDK@", sdk);
    let files = vec![
        ("Cargo.toml", named(include_str!("init/templates/rust/manifest.toml"))),
        ("src/lib.rs", include_str!("init/templates/rust/src/lib.rs").to_owned()),
        ("events.jsonl", include_str!("init/templates/events.jsonl").to_owned()),
        ("README.md", named(include_str!("init/templates/rust/README.md"))),
        (".gitignore", include_str!("init/templates/rust/gitignore").to_owned()),
    ];
    let commands = vec![
        "cargo test".to_owned(),
        "cargo build --release".to_owned(),
        format!("gaugefn invoke target/release/{library} --event events.jsonl"),
        format!("gaugefn dev target/release/{library}"),
    ];
    Plan { language: "Rust", files, commands }
}

fn report(dir: &Path, plan: &Plan) -> String {
    let mut lines = vec![format!("made '{}', a function in {}:", dir.display(), plan.language)];
    lines.extend(plan.files.iter().map(|(name, _)| format!("  {name}")));
    lines.push("next:".to_owned());
    if dir != Path::new(".") {
        lines.push(format!("  cd {}", quoted(&dir.to_string_lossy())));
    }
    lines.extend(plan.commands.iter().map(|command| format!("  {command}")));
    lines.join("\n") + "\n"
}

/// A path as a shell takes it for one word and no option.
fn quoted(path: &str) -> String {
    let path = if path.starts_with('-') { format!("./{path}") } else { path.to_owned() };
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+,:@%".contains(letter);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_path_for_one_word() {
        assert_eq!(quoted("a/vm-1"), "a/vm-1");
        assert_eq!(quoted("-vm"), "./-vm");
        assert_eq!(quoted("my vm"), "'my vm'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn no_mark_of_a_template_is_left() {
        for plan in [python(), rust("my-vm", "gaugefn-sdk = \"0.1\"")] {
            for (name, text) in &plan.files {
                assert!(!text.contains('@') && text.ends_with('\n'), "{name}: {text}");
            }
        }
        let plan = rust("my-vm", "gaugefn-sdk = \"0.1\"");
        assert_eq!(plan.commands[2], "gaugefn invoke target/release/libmy_vm.so --event events.jsonl");
    }
}
