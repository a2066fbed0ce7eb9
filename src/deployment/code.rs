//! Where the function's code is: a zip in one of several forms, or a single file.

use std::path::Path;

use loaders::Reason;
use runtime_core::config::Problem;

use super::{Reader, USER_MODULE};

const ZIP: &[&str] = &["ZIP_TARGET_PATH", "ZIP_FILE_PATH", "FUNCTION_ZIP_PATH", "RUNTIME_ZIP_PATH", "ZIP_FILE"];
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

/// A variable and its value.
type Set = (&'static str, String);

/// Where the code is. Each with the variable that said so.
pub(super) enum Code {
    /// A zip, a folder that holds one, or a file with its base64 text.
    Zip { variable: &'static str, path: String, entry: Option<Set> },
    /// The base64 text of a zip.
    Base64 { variable: &'static str, text: String, entry: Option<Set> },
    /// One source file.
    File { variable: &'static str, path: String },
    /// The source itself.
    Source { variable: &'static str, text: String },
}

/// The code that the variables mean. `module` comes from a handler written as `module.name`.
pub(super) fn choose(reader: &mut Reader<'_>, module: Option<Set>) -> Code {
    let zip = zip(reader);
    let base64 = reader.first(BASE64);
    let entry = reader.first(ENTRY).or(module);
    let which = reader.first(WHICH);
    let wants_zip = match which.as_ref().map(|(variable, value)| (*variable, value.trim().to_lowercase())) {
        None => None,
        Some((_, value)) if value == "zip" => Some(true),
        Some((_, value)) if value == "pyfile" || value == "script" => Some(false),
        Some((variable, value)) => {
            let message = format!("'{value}' is neither 'pyfile' nor 'zip'");
            reader.problems.push(Problem::new("functions.default.loader", message, Some(variable.to_owned())));
            None
        }
    };
    if wants_zip == Some(false) {
        return single(reader);
    }
    if let Some((variable, path)) = zip {
        let trouble = what_is_wrong(Path::new(&path));
        match trouble {
            Some(trouble) if wants_zip.is_none() && has_single(reader) => {
                let code = single(reader);
                reader.warnings.push(format!("{variable} is ignored, the single file is used: {trouble}"));
                return code;
            }
            _ => return Code::Zip { variable, path, entry },
        }
    }
    if let Some((variable, text)) = base64 {
        return Code::Base64 { variable, text, entry };
    }
    if let (Some(true), Some((variable, _))) = (wants_zip, which) {
        let message = "a zip is asked for, but none is named; set ZIP_TARGET_PATH";
        reader.problems.push(Problem::new("functions.default.loader", message, Some(variable.to_owned())));
    }
    single(reader)
}

/// The variable that names the zip.
fn zip(reader: &mut Reader<'_>) -> Option<Set> {
    let target = reader.variables.get("ZIP_TARGET_PATH");
    let file = reader.variables.get("ZIP_FILE_PATH").filter(|path| what_is_wrong(Path::new(path)).is_none());
    if let (Some(_), Some(path)) = (target, file) {
        // deployments in use name the folder to unpack to by the first, the zip by the second
        let warning = "ZIP_TARGET_PATH is ignored: ZIP_FILE_PATH names a zip, and it is unpacked into a private folder";
        reader.warnings.push(warning.to_owned());
        return Some(("ZIP_FILE_PATH", path));
    }
    if let Some(set) = reader.first(ZIP) {
        return Some(set);
    }
    let (variable, url) = reader.first(URL)?;
    if url.starts_with("http://") || url.starts_with("https://") {
        let message = format!("'{url}' is not downloaded: mount the zip as a file and name it by ZIP_TARGET_PATH");
        reader.problems.push(Problem::new("functions.default.loader.path", message, Some(variable.to_owned())));
        return None;
    }
    Some((variable, url.strip_prefix("file://").unwrap_or(&url).to_owned()))
}

/// Whether there is a single file to fall back to.
fn has_single(reader: &Reader<'_>) -> bool {
    let named = SINGLE.iter().find_map(|name| reader.variables.get(name));
    reader.variables.get("PYFILE").is_some() || Path::new(named.as_deref().unwrap_or(USER_MODULE)).is_file()
}

fn single(reader: &mut Reader<'_>) -> Code {
    if let Some((variable, path)) = reader.first(SINGLE) {
        if reader.variables.get("PYFILE").is_some() {
            reader.warnings.push(format!("PYFILE is ignored: {variable} is set as well and means the same"));
        }
        return Code::File { variable, path };
    }
    match reader.first(PYFILE) {
        // a path of usual length without line breaks; source text would be an odd name for a file
        Some((variable, text)) if !text.contains('\n') && Path::new(text.trim()).is_file() => {
            Code::File { variable, path: text.trim().to_owned() }
        }
        Some((variable, text)) if looks_like_path(&text) => Code::File { variable, path: text.trim().to_owned() },
        Some((variable, text)) => Code::Source { variable, text },
        None => Code::File { variable: "the default deployment", path: USER_MODULE.to_owned() },
    }
}

/// One word with a slash in front and the ending of a module: a path to a file that is missing.
fn looks_like_path(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('/') && text.ends_with(".py") && !text.contains(char::is_whitespace)
}

/// Why this path is no zip at all, in words; `None` if it is one, if only in part: that is for the loader to judge,
/// and other code must not run in its place.
fn what_is_wrong(path: &Path) -> Option<String> {
    let refusal = loaders::unpack::probe(path).err()?;
    matches!(refusal.reason, Reason::Missing | Reason::Unsuitable).then(|| refusal.to_string())
}
