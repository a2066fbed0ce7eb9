//! What `dev` and `invoke` share: a function named by a path, without Redis and without a config file.

use std::error::Error;
use std::io;

use config::Value;
use runtime_core::Entry;
use runtime_core::config::layers::{Variables, empty, of_variable, put};
use runtime_core::config::pairing::loader_for;
use runtime_core::config::section::property_names;
use runtime_core::config::settings::Isolation;
use runtime_core::config::{Problem, Settings, os_text, tree};
use runtime_core::contract::{Fault, Loader};

use crate::args::FunctionArgs;

/// The label that such a function has in logs and in its context.
pub(super) const NAME: &str = "default";

/// The settings of one function at a path, with the source `host` and the sink `stdout`.
///
/// # Errors
/// All problems of the path and of what the variables say.
pub(super) fn settings(
    args: &FunctionArgs,
    variables: &dyn Variables,
    period: &str,
    isolation: Isolation,
) -> Result<Settings, Vec<Problem>> {
    let mut layer = empty();
    let mut set = |path: &[&str], value: Value| put(&mut layer, &[&["functions", NAME], path].concat(), value);
    let argument = |text: &str| of_variable("the command line", text);
    set(&["source", "use"], argument("host"));
    set(&["source", "period"], argument(period));
    set(&["sinks", "stdout", "use"], argument("stdout"));

    if isolation == Isolation::Process && cfg!(feature = "worker") {
        set(&["isolation"], argument("process"));
        // most functions never need another one
        set(&["standby"], argument("none"));
    } else {
        set(&["isolation"], argument("inline"));
    }

    let path = os_text::text(args.path.as_os_str());
    let loader = loader_for(&args.path);
    set(&["loader", "use"], argument(loader.map_or("file", |loader| loader.name)));
    set(&["loader", "path"], argument(&path));
    let handler = match (&args.handler, variables.get("USER_HANDLER_NAME")) {
        (Some(name), _) => Some(argument(name)),
        (None, name) => name.map(|name| of_variable("USER_HANDLER_NAME", name)),
    };
    if let Some(handler) = handler {
        set(&["handler"], handler);
    }
    let entry = match (&args.entry, variables.get("ZIP_ENTRY_RELATIVE_FILE_PATH")) {
        (Some(entry), _) => Some(argument(&os_text::text(entry))),
        (None, entry) => entry.map(|entry| of_variable("ZIP_ENTRY_RELATIVE_FILE_PATH", entry)),
    };
    if let Some(entry) =
        entry.filter(|entry| has_entry(loader) || tree::origin(entry).as_deref() == Some("the command line"))
    {
        set(&["loader", "entry"], entry);
    }
    Settings::read(&layer, None)
}

/// Whether standard output could not be written because its reader, such as `head`, has had enough.
pub(super) fn reader_has_gone(fault: &Fault) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(fault);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether a loader has a file inside to choose.
fn has_entry(loader: Option<&'static Entry<dyn Loader>>) -> bool {
    loader.is_some_and(|loader| property_names(&(loader.schema)()).iter().any(|name| name == "entry"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_full_disk_is_no_reader_who_has_gone() {
        let fault = |kind: io::ErrorKind| Fault::internal("not written").caused_by(io::Error::from(kind)).fatal();
        assert!(reader_has_gone(&fault(io::ErrorKind::BrokenPipe)));
        assert!(!reader_has_gone(&fault(io::ErrorKind::StorageFull)));
        assert!(!reader_has_gone(&Fault::internal("broken pipe").fatal()));
    }

    #[test]
    fn the_loader_follows_from_the_path() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let loader = |path: &Path| loader_for(path).map(|loader| (loader.name, has_entry(Some(loader))));
        for (name, found) in [("f.py", "file"), ("f", "file"), ("f.zip", "zip"), ("f.whl", "zip"), ("f.so", "native")] {
            assert_eq!(loader(Path::new(name)).map(|(name, _)| name), Some(found), "{name}");
        }
        assert_eq!(loader(here), Some(("dir", true)));
        let folder = tempfile::tempdir().unwrap();
        for (name, content, found) in
            [("a.py", &b"\x7fELF"[..], "native"), ("b", b"PK\x03\x04", "zip"), ("c.txt", b"x = 1", "file")]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            assert_eq!(loader(&path).map(|(name, _)| name), Some(found), "{name}");
        }
    }
}
