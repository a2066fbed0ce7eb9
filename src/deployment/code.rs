//! Where the function's code is: a zip in one of several forms, or a single file.

use std::path::Path;

use loaders::Reason;
use runtime_core::config::{Problem, os_text, tree};

use super::{DEFAULT, Reader, Set, USER_MODULE, same_meaning};

const ZIP: &[&str] = &[
    "ZIP_TARGET_PATH",
    "ZIP_FILE_PATH",
    "FUNCTION_ZIP_PATH",
    "RUNTIME_ZIP_PATH",
    "CODE_ZIP_PATH",
    "ZIP_PATH",
    "ZIP_FILE",
];
const BASE64: &[&str] = &["ZIP_BASE64", "USER_CODE_BASE64"];
const ENTRY: &[&str] = &[
    "ZIP_ENTRY_RELATIVE_FILE_PATH",
    "ZIP_ENTRY_FILE",
    "RUNTIME_ZIP_ENTRY",
    "ZIPPED_MODULE_NAME",
    "ROOT_FUNCTION_MODULE",
];
const SINGLE: &[&str] = &["USER_MODULE_PATH", "FUNCTION_PATH", "PYFILE_PATH", "RUNTIME_SCRIPT_PATH"];
const PYFILE: &[&str] = &["PYFILE"];
const WHICH: &[&str] = &["PYFILE_OR_ZIP", "RUNTIME_SOURCE_TYPE"];
const URL: &[&str] = &["ZIP_URL", "ZIPFILE_URL", "ZIP_FILE_URL", "FUNCTION_ZIP_URL"];

/// All of them.
pub(super) const ROWS: &[&[&str]] = &[ZIP, BASE64, ENTRY, SINGLE, PYFILE, WHICH, URL];

/// Where the code is. Each with the variable that said so.
pub(super) enum Code {
    /// A zip, and the file inside with the entry function, if that is said.
    Zip { place: Place, entry: Option<Set> },
    /// One source file.
    File(Set),
    /// A module in a package beside the single file, by the folder that holds both.
    Folder { folder: Set, entry: Set },
    /// The source itself.
    Source(Set),
}

/// Where the zip is.
pub(super) enum Place {
    /// A zip, a folder that holds one, or a file with its base64 text.
    Path(Set),
    /// Its base64 text.
    Base64(Set),
}

/// Which kind of code is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Not said: the zip where there is one.
    Either,
    /// A zip, by this variable.
    Zip(&'static str),
    /// The single file.
    Single,
}

/// The code that the variables mean. `module` comes from a handler written as `module.name`.
pub(super) fn choose(reader: &mut Reader<'_>, module: Option<Set>) -> Code {
    let wanted = wanted(reader);
    if wanted == Wanted::Single {
        return single(reader, module);
    }
    let base64 = reader.first(BASE64);
    let instead = base64.is_some() || (wanted == Wanted::Either && has_single(reader));
    let path = match named_zip(reader, instead) {
        Ok(path) => path,
        // the url has been refused, so nothing will run
        Err(()) => return single(reader, module),
    };
    let place = match (path, base64) {
        (None, None) => {
            if let Wanted::Zip(variable) = wanted {
                let message = "a zip is asked for, but none is named; set ZIP_TARGET_PATH";
                reader.problems.push(Problem::new("functions.default.loader", message, Some(variable.to_owned())));
            }
            return single(reader, module);
        }
        (None, Some(base64)) => Place::Base64(base64),
        (Some(path), base64) => match (what_is_wrong(&os_text::path(&path.1)), base64) {
            (None, base64) => {
                if let Some((other, _)) = base64 {
                    reader.warnings.push(format!("{other} is ignored: {} names a zip", path.0));
                }
                Place::Path(path)
            }
            (Some(trouble), Some(base64)) => {
                reader.warnings.push(format!("{} is ignored, {} is used: {trouble}", path.0, base64.0));
                Place::Base64(base64)
            }
            (Some(trouble), None) if wanted == Wanted::Either && has_single(reader) => {
                reader.warnings.push(format!("{} is ignored, the single file is used: {trouble}", path.0));
                return single(reader, module);
            }
            // nothing else is there: the loader says what is wrong
            (Some(_), None) => Place::Path(path),
        },
    };
    let entry = reader.first(ENTRY).or_else(|| module.filter(|module| in_zip(reader, &place, module)));
    Code::Zip { place, entry }
}

/// Whether the zip has the module that the entry function's name says; where it cannot be read, the loader says why.
fn in_zip(reader: &mut Reader<'_>, place: &Place, (variable, module): &Set) -> bool {
    let found = match place {
        Place::Path((_, path)) => loaders::zip_has_module(Some(&os_text::path(path)), None, module),
        Place::Base64((_, text)) => loaders::zip_has_module(None, Some(text), module),
    };
    let absent = found == Some(false);
    if absent {
        reader.warnings.push(format!("the module '{module}' of {variable} is ignored: the zip has none of that name"));
    }
    !absent
}

fn wanted(reader: &mut Reader<'_>) -> Wanted {
    let Some((variable, value)) = reader.first(WHICH) else {
        return Wanted::Either;
    };
    match value.trim().to_lowercase().as_str() {
        "zip" => Wanted::Zip(variable),
        "pyfile" | "script" => Wanted::Single,
        _ => {
            let message = format!("'{value}' is neither 'pyfile' nor 'zip'; write one of them, or unset it");
            reader.problems.push(Problem::new("functions.default.loader", message, Some(variable.to_owned())));
            Wanted::Either
        }
    }
}

/// The variable that names the zip by its path; an error where its url has been refused. `instead` says whether other
/// code is there to run in its place.
fn named_zip(reader: &mut Reader<'_>, instead: bool) -> Result<Option<Set>, ()> {
    let path = beside_target(reader).or_else(|| reader.first(ZIP));
    let url = reader.first(URL);
    match (path, url) {
        (Some(path), url) => {
            if let Some((other, _)) = url {
                reader.warnings.push(same_meaning(other, path.0));
            }
            Ok(Some(path))
        }
        (None, Some((variable, url))) => match url.split_once("://") {
            None => Ok(Some((variable, url))),
            Some(("file", path)) => Ok(Some((variable, path.to_owned()))),
            Some(_) if instead => {
                reader.warnings.push(format!(
                    "{variable} is ignored: '{}' is not downloaded, and other code is there; to have the zip, mount it as a \
                     file and name that by ZIP_TARGET_PATH",
                    without_signature(&url)
                ));
                Ok(None)
            }
            Some(_) => {
                let shown = without_signature(&url);
                let message =
                    format!("'{shown}' is not downloaded; mount the zip as a file and name that by ZIP_TARGET_PATH");
                reader.problems.push(Problem::new("functions.default.loader.path", message, Some(variable.to_owned())));
                Err(())
            }
        },
        (None, None) => Ok(None),
    }
}

/// A url without its parameters, which may be a signature, and without a password.
fn without_signature(url: &str) -> String {
    tree::masked("", url.split(['?', '#']).next().unwrap_or_default())
}

/// ZIP_FILE_PATH, where ZIP_TARGET_PATH is set as well and the former is a zip: deployments in use name the folder to
/// unpack to by the one, and the zip by the other.
fn beside_target(reader: &mut Reader<'_>) -> Option<Set> {
    const USED: &str = "ZIP_FILE_PATH";
    const TARGET: &str = "ZIP_TARGET_PATH";
    reader.variables.get(TARGET)?;
    let path = reader.variables.get(USED).filter(|path| what_is_wrong(&os_text::path(path)).is_none())?;
    reader.warnings.push(format!("{TARGET} is ignored: {USED} names a zip, and it is unpacked into a private folder"));
    let others = ZIP.iter().filter(|name| ![USED, TARGET].contains(name) && reader.variables.get(name).is_some());
    reader.warnings.extend(others.map(|name| same_meaning(name, USED)));
    Some((USED, path))
}

/// Whether there is a single file to fall back to.
fn has_single(reader: &Reader<'_>) -> bool {
    let named = SINGLE.iter().find_map(|name| reader.variables.get(name));
    let is_file = |path: &str| os_text::path(path).is_file();
    match (named, reader.variables.get("PYFILE")) {
        (Some(path), _) => is_file(&path),
        (None, Some(text)) => !is_path(text.trim()) || is_file(text.trim()),
        (None, None) => is_file(USER_MODULE),
    }
}

fn single(reader: &mut Reader<'_>, module: Option<Set>) -> Code {
    let code = named_single(reader);
    if let Some((variable, module)) = module {
        let (path, stem) = match &code {
            Code::File((named_by, path)) => {
                let path = os_text::path(path);
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
                (Some((*named_by, path)), stem)
            }
            _ => (None, "usermodule".to_owned()),
        };
        let means_it = |path: &Path| path.with_extension("").ends_with(module.replace('.', "/"));
        if module == stem || path.as_ref().is_some_and(|(_, path)| means_it(path)) {
            return code;
        }
        let found = path.and_then(|(named_by, path)| Some((named_by, beside(&path, (variable, &module))?, path)));
        if let Some((named_by, found, path)) = found {
            // the default names nothing that anybody wanted
            if named_by != DEFAULT {
                reader.warnings.push(format!(
                    "{named_by} is ignored: {variable} names the module '{module}', which is beside '{}'",
                    path.display()
                ));
            }
            return found;
        }
        let warning =
            format!("the module '{module}' of {variable} is ignored: the function is the single file '{stem}'");
        reader.warnings.push(warning);
    }
    code
}

/// The module of a dotted name beside the single file.
fn beside(single: &Path, (variable, module): (&'static str, &str)) -> Option<Code> {
    let folder = single.parent()?;
    let inside = module.replace('.', "/");
    let text = |path: &Path| os_text::text(path.as_os_str());
    let file = folder.join(format!("{inside}.py"));
    let is_package = || folder.join(&inside).join("__init__.py").is_file();
    if file.is_file() && !module.contains('.') {
        return Some(Code::File((variable, text(&file))));
    }
    // what is in a package imports it from the folder above
    (!module.is_empty() && (file.is_file() || is_package()))
        .then_some(Code::Folder { folder: (variable, text(folder)), entry: (variable, module.to_owned()) })
}

fn named_single(reader: &mut Reader<'_>) -> Code {
    if let Some(path) = reader.first(SINGLE) {
        if let Some((other, _)) = reader.first(PYFILE) {
            reader.warnings.push(same_meaning(other, path.0));
        }
        return Code::File(path);
    }
    match reader.first(PYFILE) {
        Some((variable, text)) if is_path(text.trim()) => Code::File((variable, text.trim().to_owned())),
        // with the line end after it, as it is what was written
        Some((variable, text)) => Code::Source((variable, reader.variables.whole(variable).unwrap_or(text))),
        None => Code::File((DEFAULT, USER_MODULE.to_owned())),
    }
}

/// Whether it names a file, be it one that is missing: no source text is one word with a slash in front and the ending
/// of a module.
fn is_path(text: &str) -> bool {
    let missing = text.starts_with('/') && text.ends_with(".py") && !text.contains(char::is_whitespace);
    missing || (!text.contains('\n') && os_text::path(text).is_file())
}

/// Why this path is no zip at all, in words; `None` if it is one, if only in part: that is for the loader to judge,
/// and other code must not run in its place.
fn what_is_wrong(path: &Path) -> Option<String> {
    let refusal = loaders::unpack::probe(path).err()?;
    matches!(refusal.reason, Reason::Missing | Reason::Unsuitable).then(|| refusal.to_string())
}
