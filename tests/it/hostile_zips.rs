//! Zips from strangers: each is refused with one clear line and exit 65, in little memory, leaving nothing behind.

use crate::support::wait::eventually;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Far above what a refusal takes; unpacking 10 GiB takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Peak resident memory that a refusal may cost, the mapped binary included.
const MEMORY_KIB: u64 = 64 << 10;

const GIB: u64 = 1 << 30;

const HANDLER: &[u8] = b"def handler(input, context):\n    return 1\n";

/// One entry, with every field that a hostile packer would set.
#[derive(Clone)]
struct Entry {
    name: String,
    data: Vec<u8>,
    crc: u32,
    deflated: bool,
    encrypted: bool,
    /// The size that it claims to unpack to.
    claimed: u64,
    /// The file's mode, as Unix packers write it.
    mode: u32,
    /// Instead of the place where its local header really is.
    header: Option<u32>,
}

fn entry(name: impl Into<String>, data: &[u8]) -> Entry {
    Entry {
        name: name.into(),
        data: data.to_vec(),
        crc: crc32(data),
        deflated: false,
        encrypted: false,
        claimed: data.len() as u64,
        mode: 0o100_644,
        header: None,
    }
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// Writes an archive byte by byte, since a proper packer refuses most of these; with zip64 records where needed.
fn pack(path: &Path, entries: impl IntoIterator<Item = Entry>) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let (mut at, mut count, mut directory) = (0u64, 0u64, Vec::new());
    for entry in entries {
        let big = entry.claimed > u64::from(u32::MAX);
        let mut shared = Vec::new();
        shared.extend(20u16.to_le_bytes());
        shared.extend(u16::from(entry.encrypted).to_le_bytes());
        shared.extend(if entry.deflated { 8u16 } else { 0 }.to_le_bytes());
        shared.extend([0; 4]);
        shared.extend(entry.crc.to_le_bytes());
        shared.extend(u32::try_from(entry.data.len()).unwrap().to_le_bytes());
        shared.extend(u32::try_from(entry.claimed).unwrap_or(u32::MAX).to_le_bytes());
        shared.extend(u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        let local = [b"PK\x03\x04", shared.as_slice(), &[0, 0], entry.name.as_bytes(), &entry.data].concat();
        out.write_all(&local).unwrap();

        directory.extend(b"PK\x01\x02");
        directory.extend((3u16 << 8 | 20).to_le_bytes());
        directory.extend(shared);
        directory.extend(if big { 12u16 } else { 0 }.to_le_bytes());
        directory.extend([0; 6]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(entry.header.unwrap_or_else(|| u32::try_from(at).unwrap()).to_le_bytes());
        directory.extend(entry.name.as_bytes());
        if big {
            directory.extend([1, 0, 8, 0]);
            directory.extend(entry.claimed.to_le_bytes());
        }
        at += local.len() as u64;
        count += 1;
    }
    out.write_all(&directory).unwrap();
    let mut end = Vec::new();
    if count > 0xffff {
        end.extend(b"PK\x06\x06");
        end.extend(44u64.to_le_bytes());
        end.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for value in [count, count, directory.len() as u64, at] {
            end.extend(value.to_le_bytes());
        }
        end.extend(b"PK\x06\x07\0\0\0\0");
        end.extend((at + directory.len() as u64).to_le_bytes());
        end.extend(1u32.to_le_bytes());
    }
    let short = u16::try_from(count).unwrap_or(0xffff).to_le_bytes();
    end.extend(b"PK\x05\x06\0\0\0\0");
    end.extend([short, short].concat());
    end.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    end.extend(u32::try_from(at).unwrap().to_le_bytes());
    end.extend([0, 0]);
    out.write_all(&end).unwrap();
    out.flush().unwrap();
}

/// A deflate stream that really unpacks to 10 GiB of zeros, about 10 MiB long.
fn ten_gib() -> Vec<u8> {
    // after a full flush the next chunk begins afresh, so one chunk is compressed and repeated
    let script = "import sys, zlib
c = zlib.compressobj(9, zlib.DEFLATED, -15)
chunk = c.compress(bytes(1 << 20)) + c.flush(zlib.Z_FULL_FLUSH)
for _ in range(10 << 10): sys.stdout.buffer.write(chunk)
sys.stdout.buffer.write(c.flush())";
    let made = Command::new(env!("GAUGEFN_PYTHON")).args(["-I", "-S", "-c", script]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    made.stdout
}

/// Runs the rest of its arguments, then says how they ended and their peak of resident memory in KiB.
const MEASURE: &str = "import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, file=open('../measured', 'w'))";

/// The only places that the function's process can know of, all in one folder.
struct Yard {
    top: TempDir,
}

impl Yard {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        for folder in ["mount", "tmp", "home", "around", "around/cwd"] {
            fs::create_dir(top.path().join(folder)).unwrap();
        }
        Self { top }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn zip(&self) -> PathBuf {
        self.path("mount/f.zip")
    }

    /// Exit code, standard error and peak memory of `gaugefn invoke`, which must leave everything as it was.
    fn invoke(&self) -> (i32, String, u64) {
        let before = self.files();
        let (out, err) = (self.path("out"), self.path("err"));
        let mut child = Command::new(env!("GAUGEFN_PYTHON"))
            .args(["-I", "-S", "-c", MEASURE, env!("CARGO_BIN_EXE_gaugefn"), "invoke"])
            .arg(self.zip())
            .env_clear()
            .envs([("LANG", "C.UTF-8"), ("PATH", "/usr/local/bin:/usr/bin:/bin")])
            .envs([("TMPDIR", self.path("tmp")), ("HOME", self.path("home"))])
            .current_dir(self.path("around/cwd"))
            .stdin(Stdio::null())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let ended = eventually(PATIENCE, || child.try_wait().unwrap());
        let said = fs::read_to_string(&err).unwrap();
        if ended.is_none() {
            let _ = child.kill();
            panic!("still running after {PATIENCE:?}: {said}");
        }
        let measured = fs::read_to_string(self.path("around/measured")).unwrap();
        let (code, peak) = measured.trim().split_once(' ').unwrap();
        let (code, peak): (i32, u64) = (code.parse().unwrap(), peak.parse().unwrap());
        let printed = fs::read_to_string(&out).unwrap();
        assert_eq!(printed, if code == 0 { "1\n" } else { "" });
        for file in [out, err, self.path("around/measured")] {
            fs::remove_file(file).unwrap();
        }
        assert_eq!(self.files(), before, "written or removed by gaugefn: {said}");
        (code, said, peak)
    }

    /// Refused with these words, in one line that begins with the zip's path.
    fn refused(&self, words: &str) {
        let (code, said, peak) = self.invoke();
        let start = format!("gaugefn: zip {}: ", self.zip().display());
        assert!(said.starts_with(&start) && said.lines().count() == 1, "{said}");
        assert!(said.contains(words), "no {words:?} in: {said}");
        assert_eq!(code, 65, "{said}");
        assert!(peak <= MEMORY_KIB, "{peak} KiB for: {said}");
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.top.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found.sort();
        found
    }
}

fn refused(entries: impl IntoIterator<Item = Entry>, words: &str) {
    let yard = Yard::new();
    pack(&yard.zip(), entries);
    yard.refused(words);
}

fn main_py() -> Entry {
    entry("main.py", HANDLER)
}

#[test]
fn a_good_zip_from_the_same_packer_runs_and_leaves_nothing() {
    let yard = Yard::new();
    pack(&yard.zip(), [main_py(), entry("lib/near.py", b"x = 1\n")]);
    let (code, said, _) = yard.invoke();
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn traversal() {
    for name in ["../evil.py", "../../evil.py", "lib/../../evil.py", "../cwd/evil.py"] {
        refused([main_py(), entry(name, b"x")], &format!("entry '{name}' leads out of the archive with '..'"));
    }
}

#[test]
fn an_absolute_path() {
    let yard = Yard::new();
    let target = yard.path("around/evil.py").display().to_string();
    pack(&yard.zip(), [main_py(), entry(&target, b"x")]);
    yard.refused("is an absolute path");
}

#[test]
fn a_symbolic_link() {
    let mut link = entry("lib", b"../../around/cwd");
    link.mode = 0o120_777;
    // a naive unpacker would write the second one through the first
    refused([main_py(), link.clone(), entry("lib/evil.py", b"x")], "entry 'lib' is a symbolic link");
    link.name = "main.py".to_owned();
    link.data = b"/etc/passwd".to_vec();
    refused([link], "entry 'main.py' is a symbolic link");
}

#[test]
fn duplicate_names() {
    refused([main_py(), entry("main.py", b"evil()\n")], "entry 'main.py' is there twice");
    refused([main_py(), entry("./main.py", b"evil()\n")], "entry 'main.py' is there twice");
}

#[test]
fn overlapping_entries() {
    let mut second = entry("copy.py", HANDLER);
    second.header = Some(0);
    refused([main_py(), second], "entries 'main.py' and 'copy.py' overlap");
}

#[test]
fn many_names_for_one_block() {
    // a bomb without compression of its own: 5000 times the same 10 KiB
    let block = entry("block", &[b'#'; 10 << 10]);
    let others = (0..5000).map(|n| Entry { header: Some(0), data: Vec::new(), ..entry(format!("f{n}.py"), b"") });
    let yard = Yard::new();
    pack(&yard.zip(), [block].into_iter().chain(others));
    yard.refused("overlap");
}

#[test]
fn ten_gib_in_ten_mib() {
    let mut bomb = entry("zeros.bin", &ten_gib());
    assert!(bomb.data.len() < 16 << 20, "{} bytes", bomb.data.len());
    bomb.deflated = true;
    bomb.claimed = 10 * GIB;
    refused([main_py(), bomb.clone()], "max_total");
    // one that says it is small
    bomb.claimed = 1 << 20;
    refused([main_py(), bomb.clone()], "zeros.bin");
    // one that says it is just small enough for all of the limits
    bomb.claimed = 500 << 20;
    refused([main_py(), bomb], "zeros.bin");
}

#[test]
fn ten_gib_in_many_files() {
    let part = ten_gib();
    let part = &part[..part.len() / 100];
    let parts = (0..100).map(|n| Entry { deflated: true, claimed: GIB / 10, ..entry(format!("zeros{n}.bin"), part) });
    refused([main_py()].into_iter().chain(parts), "max_total");
}

#[test]
fn a_hundred_thousand_entries() {
    refused((0..100_000).map(|n| entry(format!("f{n}.py"), b"")), "100000 entries");
}

#[test]
fn truncated() {
    let yard = Yard::new();
    pack(&yard.zip(), [main_py(), entry("lib/near.py", b"x = 1\n")]);
    let whole = fs::read(yard.zip()).unwrap();
    // behind the end record, inside it, inside the list of entries, inside the first entry
    for length in [whole.len() - 1, whole.len() - 21, whole.len() - 60, 60, 5] {
        fs::write(yard.zip(), &whole[..length]).unwrap();
        yard.refused("cut off");
    }
    fs::write(yard.zip(), &whole[40..]).unwrap();
    yard.refused("");
    fs::write(yard.zip(), b"").unwrap();
    yard.refused("empty");
}

#[test]
fn damaged() {
    let yard = Yard::new();
    pack(&yard.zip(), [main_py()]);
    let mut bytes = fs::read(yard.zip()).unwrap();
    bytes[45] ^= 0x20;
    fs::write(yard.zip(), bytes).unwrap();
    yard.refused("entry 'main.py' is damaged");
}

#[test]
fn encrypted() {
    let mut secret = main_py();
    secret.encrypted = true;
    refused([secret], "entry 'main.py' is encrypted");
}

#[test]
fn a_text_renamed_to_zip() {
    let yard = Yard::new();
    fs::write(yard.zip(), HANDLER).unwrap();
    yard.refused("is not a zip: it starts with 'def handler(");
    // nor is anything else: a picture, a gzip
    fs::write(yard.zip(), b"\x1f\x8b\x08\0\0\0\0\0\0\x03").unwrap();
    yard.refused("");
}

/// Names are a way in as well: what is printed must stay on its line.
#[test]
fn names_that_would_forge_the_log() {
    let yard = Yard::new();
    pack(&yard.zip(), [entry("../a\n\x1b[31mgaugefn: all is well", b"x")]);
    yard.refused("leads out of the archive");
    let (_, said, _) = yard.invoke();
    assert!(!said.contains('\x1b'), "{said:?}");
}
