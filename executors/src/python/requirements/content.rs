//! What a requirements file asks for, as one number: its own text, that of the files that it includes, the packages on
//! this disk that it names, and pip's settings of the surroundings that say where packages come from.
//!
//! Lines are read as pip reads them. What is misread here is at worst counted in vain, or as text alone: pip itself
//! decides what is installed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// More than this is no list of packages.
const LONGEST_FILE: u64 = 16 << 20;

/// A larger package is told by its size and the time of its last change.
const LARGEST_READ: u64 = 64 << 20;

/// Names of a package's folder that are looked at; more of them are no source of one package.
const MOST_NAMES: usize = 20_000;

/// pip's variables that decide what is installed. Others say how, or where to, and that is said here.
const DECIDING: &[&str] = &[
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_NO_INDEX",
    "PIP_FIND_LINKS",
    "PIP_CONSTRAINT",
    "PIP_REQUIREMENT",
    "PIP_PRE",
    "PIP_NO_BINARY",
    "PIP_ONLY_BINARY",
    "PIP_PREFER_BINARY",
    "PIP_NO_DEPS",
];

/// Asks for a variable of the process.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The hexadecimal digits that stand for all of it. Compiled packages fit one version of Python only.
///
/// # Errors
/// The file itself cannot be read.
pub(super) fn key(file: &Path, python: &Path, variables: Variables<'_>) -> io::Result<String> {
    let mut content = Content { hash: Sha256::new(), seen: HashSet::new(), variables };
    content.part("python", env!("GAUGEFN_PYTHON_VERSION").as_bytes());
    let text = read(file)?;
    content.seen.insert(file.to_owned());
    content.requirements(&text, folder_of(file));
    content.settings(python);
    Ok(content.hash.finalize().iter().fold(String::new(), |mut name, byte| {
        // writing to a string cannot fail
        let _ = write!(name, "{byte:02x}");
        name
    }))
}

struct Content<'a> {
    hash: Sha256,
    /// Files that were read: one may include itself.
    seen: HashSet<PathBuf>,
    variables: Variables<'a>,
}

/// What a word of a line stands for.
enum Named {
    /// A further file of the same kind.
    File(String),
    /// A folder, or a page, with packages.
    Links(String),
    /// A package, if it is on this disk.
    Package(String),
}

impl Content<'_> {
    /// Lengths in front, so that no part can pass for another.
    fn part(&mut self, kind: &str, bytes: &[u8]) {
        for bytes in [kind.as_bytes(), bytes] {
            self.hash.update((bytes.len() as u64).to_le_bytes());
            self.hash.update(bytes);
        }
    }

    /// A file's text, and what it names. `base` is its folder.
    fn requirements(&mut self, text: &[u8], base: &Path) {
        for line in lines(&decoded(text)) {
            let line = self.expanded(&line);
            self.part("line", line.as_bytes());
            for named in names(&line) {
                match named {
                    Named::File(name) => self.include(&base.join(local(&name))),
                    // beside the file that names it, or else where pip runs
                    Named::Links(name) => {
                        let name = local(&name);
                        let beside = base.join(&name);
                        self.links(if beside.exists() { &beside } else { &name });
                    }
                    Named::Package(name) => self.package(&local(&name)),
                }
            }
        }
    }

    fn include(&mut self, file: &Path) {
        if !self.seen.insert(file.to_owned()) {
            return;
        }
        // pip says what is wrong with one that cannot be read
        let Ok(text) = read(file) else { return self.part("absent", b"") };
        self.requirements(&text, folder_of(file));
    }

    /// Packages beside each other: their names and what the inodes say, as there may be many that nobody asks for.
    fn links(&mut self, place: &Path) {
        let Ok(entries) = fs::read_dir(place) else { return self.package(place) };
        let mut entries: Vec<_> = entries.flatten().take(MOST_NAMES).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self.part("link", entry.file_name().as_bytes());
            if let Ok(meta) = fs::metadata(entry.path()) {
                self.inode(&meta);
            }
        }
    }

    /// A package's archive or folder, by its content.
    fn package(&mut self, place: &Path) {
        let Ok(meta) = fs::metadata(place) else { return };
        if meta.is_file() {
            return self.file(place, &meta);
        }
        let mut folders = vec![place.to_owned()];
        let mut names = 0;
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let mut entries: Vec<_> = entries.flatten().take(MOST_NAMES - names).collect();
            names += entries.len();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries.iter().filter(|entry| !is_made(&entry.file_name())) {
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(_) => {
                        let Ok(meta) = fs::metadata(&path) else { continue };
                        if meta.is_file() {
                            self.part("file", path.strip_prefix(place).unwrap_or(&path).as_os_str().as_bytes());
                            self.file(&path, &meta);
                        }
                    }
                    Err(_) => {}
                }
            }
        }
    }

    fn file(&mut self, path: &Path, meta: &fs::Metadata) {
        let mut hash = Sha256::new();
        let read = File::open(path).and_then(|file| copy(file.take(LARGEST_READ), &mut hash));
        match read {
            Ok(()) if meta.len() <= LARGEST_READ => self.part("content", &hash.finalize()),
            _ => self.inode(meta),
        }
    }

    fn inode(&mut self, meta: &fs::Metadata) {
        self.part("size", &meta.size().to_le_bytes());
        self.part("time", &[meta.mtime().to_le_bytes(), meta.mtime_nsec().to_le_bytes()].concat());
    }

    /// What the surroundings tell pip: variables, and its files.
    fn settings(&mut self, python: &Path) {
        for name in DECIDING {
            let Some(value) = (self.variables)(name) else { continue };
            self.part(name, value.as_bytes());
            let values = value.to_string_lossy().into_owned();
            for value in values.split_whitespace() {
                match *name {
                    "PIP_CONSTRAINT" | "PIP_REQUIREMENT" => self.include(&local(value)),
                    "PIP_FIND_LINKS" => self.links(&local(value)),
                    _ => {}
                }
            }
        }
        for file in self.setting_files(python) {
            if let Ok(text) = read(&file) {
                self.part("settings", &text);
            }
        }
    }

    /// Where pip looks for its settings.
    fn setting_files(&self, python: &Path) -> Vec<PathBuf> {
        let path = |name: &str| (self.variables)(name).map(PathBuf::from);
        let named = path("PIP_CONFIG_FILE");
        if named.as_deref() == Some(Path::new("/dev/null")) {
            return Vec::new();
        }
        let home = path("HOME");
        let mut files = vec![PathBuf::from("/etc/xdg/pip/pip.conf"), PathBuf::from("/etc/pip.conf")];
        files.extend(home.iter().map(|home| home.join(".pip/pip.conf")));
        let own = path("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")));
        files.extend(own.map(|own| own.join("pip/pip.conf")));
        // of the virtual environment: beside its bin
        files.extend(python.parent().and_then(Path::parent).map(|prefix| prefix.join("pip.conf")));
        files.extend(named);
        files
    }

    /// `${NAME}` by its value, where it has one.
    fn expanded(&self, line: &str) -> String {
        let mut text = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("${") {
            text.push_str(before);
            let name = after.split_once('}').filter(|(name, _)| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            });
            match name.and_then(|(name, after)| Some(((self.variables)(name)?, after))) {
                Some((value, after)) => {
                    text.push_str(&value.to_string_lossy());
                    rest = after;
                }
                None => {
                    text.push_str("${");
                    rest = after;
                }
            }
        }
        text + rest
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // a pipe would be waited for
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    File::open(file)?.take(LONGEST_FILE).read_to_end(&mut text)?;
    Ok(text)
}

fn copy(mut from: impl Read, hash: &mut Sha256) -> io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => hash.update(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What building a package leaves in its folder.
fn is_made(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".")
        || name.ends_with(b".pyc")
        || name.ends_with(b".egg-info")
        || [&b"__pycache__"[..], b"build", b"dist"].contains(&name)
}

/// A path, be it written as one or as a url.
fn local(name: &str) -> PathBuf {
    let Some(path) = name.strip_prefix("file:") else { return name.into() };
    let path = path.strip_prefix("//").map_or(path, |path| path.strip_prefix("localhost").unwrap_or(path));
    let path = path.split(['#', '?']).next().unwrap_or(path);
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// Text with the mark in front that tells its encoding, as editors and shells of Windows write it.
fn decoded(text: &[u8]) -> String {
    let wide = |unit: fn([u8; 2]) -> u16, text: &[u8]| {
        let units = text.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match text {
        [0xff, 0xfe, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => wide(u16::from_be_bytes, rest),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(text).into_owned(),
    }
}

/// The lines that say something: joined where one ends with a backslash, without comments.
fn lines(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        let is_comment = line.trim_start().starts_with('#');
        match line.strip_suffix('\\').filter(|_| !is_comment) {
            Some(start) => open.push_str(start),
            None => {
                // a comment ends what goes on, and must not begin within a word of it
                open.push_str(if is_comment { " " } else { "" });
                open.push_str(line);
                all.push(std::mem::take(&mut open));
            }
        }
    }
    all.push(open);
    let said = all.iter().map(|line| without_comment(line).trim().to_owned());
    said.filter(|line| !line.is_empty()).collect()
}

/// A comment begins at the start or after white space: a url has `#` as well.
fn without_comment(line: &str) -> &str {
    let mut space = true;
    for (at, letter) in line.char_indices() {
        if letter == '#' && space {
            return &line[..at];
        }
        space = letter.is_whitespace();
    }
    line
}

/// What a line names: options with their values, or a requirement, which may be a path, a url, or a name at one.
fn names(line: &str) -> Vec<Named> {
    let mut found = Vec::new();
    // the first word with a dash in front begins the options
    let options_at = if line.starts_with('-') { 0 } else { line.find(" -").unwrap_or(line.len()) };
    let requirement = line[..options_at].split(" ;").next().unwrap_or_default().trim();
    if !requirement.is_empty() {
        let place = requirement.split_once('@').map_or(requirement, |(_, url)| url.trim());
        found.extend([requirement, place].map(|place| Named::Package(without_extras(place).to_owned())));
    }
    let mut words = words(&line[options_at..]).into_iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ if word.starts_with("--") || word.len() <= 2 || !word.is_char_boundary(2) => (word, None),
            _ => (word[..2].to_owned(), Some(word[2..].to_owned())),
        };
        let is = |short: &str, long: &str, least: usize| {
            name == short || (name.len() >= least && name.starts_with("--") && long.starts_with(&name))
        };
        let kind: fn(String) -> Named = if is("-r", "--requirement", 11) || is("-c", "--constraint", 4) {
            Named::File
        } else if is("-f", "--find-links", 4) {
            Named::Links
        } else if is("-e", "--editable", 4) {
            |place| Named::Package(without_extras(&place).to_owned())
        } else {
            continue;
        };
        found.extend(value.or_else(|| words.next()).map(kind));
    }
    found
}

/// `./package[extra]` is the folder `./package`.
fn without_extras(place: &str) -> &str {
    place.strip_suffix(']').and_then(|place| place.rsplit_once('[')).map_or(place, |(place, _)| place)
}

/// Words as a shell has them: quotes and backslashes keep white space.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, _) if letter.is_whitespace() => all.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    all.extend(word);
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{create_dir, write};

    use super::*;

    const NONE: Variables<'static> = &|_| None;

    fn key_of(folder: &Path) -> String {
        key(&folder.join("req.txt"), Path::new("/nowhere/bin/python"), NONE).unwrap()
    }

    /// Whether the key changes where this file does.
    #[track_caller]
    fn follows(folder: &Path, file: &str) {
        let before = key_of(folder);
        let place = folder.join(file);
        let old = fs::read(&place).unwrap();
        write(&place, b"# other").unwrap();
        assert_ne!(key_of(folder), before, "{file} does not count");
        write(&place, old).unwrap();
        assert_eq!(key_of(folder), before);
    }

    #[test]
    fn files_that_are_included_count_in_every_spelling() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        create_dir(folder.join("sub")).unwrap();
        for name in ["a", "b", "c", "d", "e f", "sub/g", "sub/h", "own"] {
            write(folder.join(format!("{name}.txt")), "x==1\n").unwrap();
        }
        write(folder.join("sub/g.txt"), "x\n-r h.txt\n-r ../req.txt\n").unwrap();
        let text = "-r a.txt\n--requirement=b.txt # why\n -c  c.txt\n--constraint \\\n  d.txt\n-r 'e f.txt'\n-rsub/g.txt\n\
                    # -r absent.txt\nx==2 --hash=sha256:00 # -r own.txt\n-r absent.txt\n";
        write(folder.join("req.txt"), text).unwrap();
        for name in ["a", "b", "c", "d", "e f", "sub/g", "sub/h"] {
            follows(folder, &format!("{name}.txt"));
        }
        let before = key_of(folder);
        write(folder.join("own.txt"), "other").unwrap();
        assert_eq!(key_of(folder), before, "a comment includes nothing");
        write(folder.join("absent.txt"), "x==1").unwrap();
        assert_ne!(key_of(folder), before);
    }

    #[test]
    fn packages_on_this_disk_count_and_what_building_leaves_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let at = folder.display();
        for name in ["pkg", "pkg/src", "links", "pkg/build", "pkg/p.egg-info"] {
            create_dir(folder.join(name)).unwrap();
        }
        for name in ["pkg/setup.py", "pkg/src/a.py", "one.whl", "two 2.whl", "links/l.whl", "pkg/build/x"] {
            write(folder.join(name), "1").unwrap();
        }
        let text = format!(
            "--find-links links\n{at}/pkg[fast] ; python_version > '3'\none @ file://{at}/one.whl\ntwo@file:{at}/two%202.whl\n"
        );
        write(folder.join("req.txt"), text).unwrap();
        for name in ["pkg/setup.py", "pkg/src/a.py", "one.whl", "two 2.whl"] {
            follows(folder, name);
        }
        let before = key_of(folder);
        write(folder.join("pkg/build/x"), "2").unwrap();
        write(folder.join("pkg/p.egg-info/PKG-INFO"), "2").unwrap();
        assert_eq!(key_of(folder), before);
        write(folder.join("links/m.whl"), "1").unwrap();
        assert_ne!(key_of(folder), before);
        write(folder.join("req.txt"), format!("-e {at}/pkg\n")).unwrap();
        follows(folder, "pkg/setup.py");
    }

    #[test]
    fn variables_count_where_pip_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder.join("v1.txt"), "x==1").unwrap();
        write(folder.join("limits.txt"), "y<2").unwrap();
        write(folder.join("pip.conf"), "[global]\nindex-url = http://127.0.0.1:1/\n").unwrap();
        write(folder.join("req.txt"), "-r ${WHICH}.txt\n${absent} ${ABSENT}\n").unwrap();
        let with = |set: &[(&str, &str)]| {
            let variables = |name: &str| Some(set.iter().find(|(key, _)| *key == name)?.1.into());
            key(&folder.join("req.txt"), Path::new("/nowhere/bin/python"), &variables).unwrap()
        };
        let limits = folder.join("limits.txt");
        let set = [("WHICH", "v1"), ("PIP_CONSTRAINT", limits.to_str().unwrap())];
        let first = with(&set);
        for file in ["v1.txt", "limits.txt"] {
            let old = fs::read(folder.join(file)).unwrap();
            write(folder.join(file), "z").unwrap();
            assert_ne!(with(&set), first, "{file}");
            write(folder.join(file), old).unwrap();
        }
        assert_eq!(with(&[set[0], set[1], ("PIP_USER", "1")]), first);
        assert_ne!(with(&[set[0], set[1], ("PIP_INDEX_URL", "http://127.0.0.1:2/")]), first);
        let conf = folder.join("pip.conf");
        assert_ne!(with(&[set[0], set[1], ("PIP_CONFIG_FILE", conf.to_str().unwrap())]), first);
        // neither those of the machine nor the user's own
        let nothing = ("PIP_CONFIG_FILE", "/dev/null");
        create_dir(folder.join(".pip")).unwrap();
        write(folder.join(".pip/pip.conf"), "[global]\nno-index = true\n").unwrap();
        let home = ("HOME", folder.to_str().unwrap());
        assert_eq!(with(&[set[0], set[1], nothing, home]), with(&[set[0], set[1], nothing]));
        assert_ne!(with(&[set[0], set[1], home]), first);
    }

    #[test]
    fn what_windows_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("a.txt"), "x").unwrap();
        let wide: Vec<u8> =
            [0xff, 0xfe].into_iter().chain("-r a.txt\r\n".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        for text in [wide, b"\xef\xbb\xbf-r a.txt\r\n".to_vec()] {
            write(folder.path().join("req.txt"), text).unwrap();
            follows(folder.path(), "a.txt");
        }
    }

    #[test]
    fn a_file_that_includes_itself_and_one_without_sense_end() {
        let folder = tempfile::tempdir().unwrap();
        let text = "-r req.txt\n-r\n--requirement=\n-\n'\n\"\\\n@\n[]\n-é\n";
        write(folder.path().join("req.txt"), text).unwrap();
        key_of(folder.path());
    }
}
