//! Every form of zip that is in use, and every hostile one.

#![allow(clippy::unwrap_used)]

use super::samples::{Raw, packed, raw, write_raw, zeros, zip_of};
use super::*;
use crate::refusal::Reason;
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A folder that holds the archive, and beside it the only place where anything may be written.
struct Yard {
    top: tempfile::TempDir,
}

impl Yard {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        for folder in ["mount", "tmp"] {
            fs::create_dir(top.path().join(folder)).unwrap();
        }
        Self { top }
    }

    fn with(bytes: &[u8]) -> Self {
        let yard = Self::new();
        fs::write(yard.zip(), bytes).unwrap();
        yard
    }

    /// Without holding it in memory, which is measured.
    fn write(&self, entries: impl Iterator<Item = Raw>) {
        let mut out = BufWriter::new(File::create(self.zip()).unwrap());
        write_raw(&mut out, entries);
        out.flush().unwrap();
    }

    fn zip(&self) -> PathBuf {
        self.top.path().join("mount/f.zip")
    }

    fn tmp(&self) -> PathBuf {
        self.top.path().join("tmp")
    }

    fn unpack(&self, limits: &Limits) -> Result<PrivateFolder, Refusal> {
        unpack(&mut Archive::open(&self.zip(), &self.tmp())?, limits, &self.tmp())
    }

    /// The refusal without the archive's path in front, after a check that nothing was left or written elsewhere.
    fn refusal(&self, limits: &Limits) -> Refusal {
        let refusal = self.unpack(limits).unwrap_err();
        assert_eq!(files(&self.tmp()), Vec::<String>::new(), "left behind");
        let mut around: Vec<_> = fs::read_dir(self.top.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        around.sort();
        assert_eq!(around, ["mount", "tmp"], "written outside");
        assert_eq!(files(&self.top.path().join("mount")), ["f.zip"], "written beside the archive");
        assert!(!refusal.to_string().contains('\n'), "{refusal}");
        refusal
    }
}

fn refused(bytes: &[u8]) -> String {
    let yard = Yard::with(bytes);
    let refusal = yard.refusal(&Limits::default());
    assert_eq!(refusal.reason, Reason::Broken, "{refusal}");
    let title = format!("zip {}: ", yard.zip().display());
    refusal.to_string().strip_prefix(&title).unwrap().to_owned()
}

/// Relative paths of everything below, sorted, folders with `/`.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                found.push(name + "/");
                folders.push(path);
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn unpacked(bytes: &[u8]) -> Vec<String> {
    let yard = Yard::with(bytes);
    let folder = yard.unpack(&Limits::default()).unwrap();
    files(folder.path())
}

#[test]
fn forms_in_use_unpack() {
    assert_eq!(unpacked(&packed(&[("main.py", b"x"), ("lib.py", b"")])), ["lib.py", "main.py"]);
    assert_eq!(
        unpacked(&packed(&[("my-fn/", b""), ("my-fn/sub/run.py", b"x"), ("my-fn/empty/", b"")])),
        ["my-fn/", "my-fn/empty/", "my-fn/sub/", "my-fn/sub/run.py"]
    );
    assert_eq!(
        unpacked(&packed(&[
            ("__MACOSX/._main.py", b"\0\x05"),
            ("main.py", b"x"),
            (".DS_Store", b"x"),
            ("__pycache__/main.cpython-38.pyc", b"x"),
            ("pkg/__pycache__/", b""),
            ("pkg/x.so", b"\x7fELF"),
            (".dockerignore", b"*"),
        ])),
        [".dockerignore", "main.py", "pkg/", "pkg/x.so"]
    );
    // a folder named twice, and `./` in front
    assert_eq!(
        unpacked(&zip_of(&[raw("./", b""), raw("./a/", b""), raw("a/", b""), raw("./a/b.py", b"1")])),
        ["a/", "a/b.py"]
    );
    // a name in the code page of DOS
    assert_eq!(unpacked(&zip_of(&[raw(b"a\x84.py", b"1")])), ["aä.py"]);
    // behind a shebang, as zipapp writes it: offsets count from the archive's own start
    let mut app = b"#!/usr/bin/env python3\n".to_vec();
    app.extend(packed(&[("__main__.py", b"x")]));
    assert_eq!(unpacked(&app), ["__main__.py"]);
}

#[test]
fn content_and_the_owners_rights_are_kept_private() {
    let text: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let mut tool = raw("bin/tool", b"#!/bin/sh");
    tool.attributes = 0o100_755 << 16;
    let yard = Yard::with(&zip_of(&[tool, raw("data.bin", &text)]));
    let folder = yard.unpack(&Limits::default()).unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode(""), mode("bin"), mode("bin/tool"), mode("data.bin")], [0o700, 0o700, 0o700, 0o600]);
    assert_eq!(fs::read(folder.path().join("data.bin")).unwrap(), text);
    assert!(folder.path().starts_with(yard.tmp()));
    drop(folder);
    assert_eq!(files(&yard.tmp()), Vec::<String>::new());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../evil.py", "a/../../evil.py", "__MACOSX/../../evil.py"] {
        assert_eq!(
            refused(&zip_of(&[raw("main.py", b"x"), raw(name, b"x")])),
            format!(
                "entry '{name}' leads out of the archive with '..': pack the archive again from inside the function's folder"
            )
        );
    }
    for name in ["/tmp/evil.py", r"C:\evil.py", r"\\host\share\evil.py"] {
        let message = refused(&zip_of(&[raw(name, b"x")]));
        assert!(message.ends_with("is an absolute path: pack the archive again with relative paths"), "{message}");
    }
    assert_eq!(
        refused(&zip_of(&[raw(r"pkg\main.py", b"x")])),
        r"entry 'pkg\\main.py' has a backslash in its name: pack the archive again with '/' between folders (python -m zipfile)"
    );
    assert_eq!(
        refused(&zip_of(&[raw("a\0.py", b"x")])),
        r"entry 'a\0.py' has a NUL in its name: rename the file and pack the archive again"
    );
    let mut wrong = raw(b"a\xff.py", b"x");
    wrong.flags = 1 << 11;
    assert_eq!(
        refused(&zip_of(&[wrong])),
        "entry 'a\u{fffd}.py' has a name that is no UTF-8 although it says so: rename the file and pack the archive again"
    );
}

#[test]
fn links_and_devices_are_refused_whatever_system_they_claim() {
    for system in [0, 3, 19] {
        for (mode, word) in [
            (0o120_777, "a symbolic link"),
            (0o010_644, "a named pipe"),
            (0o020_666, "a device"),
            (0o140_777, "a socket"),
        ] {
            let mut link = raw("link", b"/etc/passwd");
            link.attributes = mode << 16;
            link.system = system;
            assert_eq!(
                refused(&zip_of(&[link])),
                format!(
                    "entry 'link' is {word}: only files and folders are accepted; pack the archive again with the file itself"
                )
            );
        }
    }
}

#[test]
fn two_entries_for_one_path_are_refused() {
    let twice = "entry 'main.py' is there twice: remove one (zip -d) or pack the archive again";
    assert_eq!(refused(&zip_of(&[raw("main.py", b"1"), raw("b", b""), raw("main.py", b"2")])), twice);
    assert_eq!(refused(&zip_of(&[raw("main.py", b"1"), raw("./main.py", b"2")])), twice);
    let both = "entry 'a' is both a file and a folder: rename one and pack the archive again";
    assert_eq!(refused(&zip_of(&[raw("a", b"1"), raw("a-b", b""), raw("a/b.py", b"2")])), both);
    assert_eq!(refused(&zip_of(&[raw("a/", b""), raw("a", b"2")])), both);
}

#[test]
fn entries_that_share_bytes_are_refused() {
    let mut second = raw("b.py", b"same");
    second.header = Some(0);
    assert_eq!(
        refused(&zip_of(&[raw("a.py", b"same"), second])),
        "entries 'a.py' and 'b.py' overlap: the archive is damaged or a bomb; pack it again"
    );
    let mut quine = raw("a.py", b"PK");
    quine.claimed = 1000;
    let mut bytes = zip_of(&[quine]);
    // the packed size in the directory, which starts after 30 + 4 + 2 bytes
    bytes[36 + 20..36 + 24].copy_from_slice(&1000u32.to_le_bytes());
    assert_eq!(
        refused(&bytes),
        "entry 'a.py' reaches into the list of entries: the archive is damaged or a bomb; pack it again"
    );
}

#[test]
fn what_cannot_be_read_says_how_to_pack_it() {
    let mut secret = raw("main.py", b"x");
    secret.flags = 1;
    assert_eq!(refused(&zip_of(&[secret])), "entry 'main.py' is encrypted: pack the archive again without a password");
    let mut zstd = raw("main.py", b"x");
    zstd.method = 93;
    assert_eq!(
        refused(&zip_of(&[zstd])),
        "entry 'main.py' is compressed with method 93 (zstd): pack the archive again with deflate, the default of zip and of python -m zipfile"
    );
    assert_eq!(refused(&zip_of(&[])), "holds no files: pack the function's folder again");
    assert_eq!(refused(&zip_of(&[raw("__MACOSX/x", b"")])), "holds no files: pack the function's folder again");
}

#[test]
fn damage_is_found() {
    let mut wrong = raw("main.py", b"x = 1");
    wrong.crc ^= 1;
    assert_eq!(
        refused(&zip_of(&[wrong])),
        "entry 'main.py' is damaged: invalid checksum; copy or pack the archive again"
    );
    let whole = packed(&[("main.py", b"x = 1"), ("b.py", b"y = 2")]);
    let cut = &whole[..whole.len() - 30];
    assert_eq!(
        refused(cut),
        format!(
            "is cut off: the list of entries at its end is missing, {} bytes are here; copy the whole file again",
            cut.len()
        )
    );
    assert_eq!(
        refused(&whole[20..]),
        "is damaged: its list of entries is not where its end says; copy or pack it again"
    );
}

#[test]
fn a_text_with_the_name_of_a_zip_is_shown() {
    let yard = Yard::with(b"def handler(input, context):\n    return {}\n");
    let refusal = yard.refusal(&Limits::default());
    assert_eq!(refusal.reason, Reason::Unsuitable);
    assert_eq!(
        refusal.to_string(),
        format!(
            "zip {}: is not a zip: it starts with 'def handler(input, conte'; mount the archive itself, or its base64 text",
            yard.zip().display()
        )
    );
}

/// Peak memory in KiB since the last reset.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How far the peak rises while `work` runs, in KiB.
fn growth<T>(work: impl FnOnce() -> T) -> (T, u64) {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let result = work();
    (result, peak() - before)
}

/// All that an unpacking may need; the acceptance is 64 MiB for the whole process.
const ROOM: u64 = 24 << 10;

#[test]
fn a_hundred_thousand_entries_cost_nothing() {
    let yard = Yard::new();
    yard.write((0..100_000).map(|n| raw(format!("{n:0200}"), b"")));
    let (refusal, grown) = growth(|| yard.refusal(&Limits::default()).to_string());
    assert!(
        refusal.ends_with(
            "holds 100000 entries: at most 10000 are accepted; pack only what the function needs, or raise max_entries"
        ),
        "{refusal}"
    );
    assert!(grown < 4 << 10, "{grown} KiB");
}

#[test]
fn as_many_entries_as_are_accepted_fit_in_memory() {
    let yard = Yard::new();
    let mut out = std::io::BufWriter::new(File::create(yard.zip()).unwrap());
    // every name as long as the cap of the list allows, in the code page that grows threefold
    let name = |n: u32| [format!("{n:05}").as_bytes(), &[&b"/"[..], &[0xb0; 70]].concat().repeat(4)].concat();
    write_raw(&mut out, (0..10_000).map(|n| raw(name(n), b"")));
    out.flush().unwrap();
    drop(out);
    let (refusal, grown) = growth(|| yard.refusal(&Limits::default()).to_string());
    assert!(
        refusal.ends_with(
            "makes 50000 files and folders: at most twice max_entries (10000) are accepted; pack fewer, or raise it"
        ),
        "{refusal}"
    );
    assert!(grown < ROOM, "{grown} KiB");

    let yard = Yard::new();
    yard.write((0..10_000).map(|n| raw(format!("d{}/{n}.py", n % 100), b"x")));
    let (folder, grown) = growth(|| yard.unpack(&Limits::default()).unwrap());
    assert_eq!(files(folder.path()).len(), 10_100);
    assert!(grown < ROOM, "{grown} KiB");
}

#[test]
fn a_list_of_entries_larger_than_it_could_need_is_refused_unread() {
    let yard = Yard::new();
    yard.write((0..1000).map(|n| raw(format!("{n:060000}"), b"")));
    let (refusal, grown) = growth(|| yard.refusal(&Limits::default()).to_string());
    assert!(refusal.contains("has a list of entries of 57.3 MiB: at most 3.8 MiB are accepted"), "{refusal}");
    assert!(grown < 4 << 10, "{grown} KiB");
}

#[test]
fn bombs_are_refused_by_their_claims() {
    let mut bomb = raw("bomb.bin", &[0; 1000]);
    (bomb.method, bomb.claimed) = (8, 10 << 30);
    assert_eq!(
        refused(&zip_of(&[raw("main.py", b"x"), bomb.clone()])),
        "unpacks to more than 512.0 MiB (at entry 'bomb.bin'): leave out what the function does not need, or raise max_total"
    );
    bomb.claimed = 20 << 20;
    assert_eq!(
        refused(&zip_of(&[bomb.clone()])),
        "unpacks to 20.0 MiB from 1000 B, more than 200 times as much (largest: entry 'bomb.bin'): leave that file out, or raise max_ratio"
    );
    // many small ones add up
    bomb.claimed = 300 << 20;
    bomb.data = vec![0; 2 << 20];
    let mut other = bomb.clone();
    other.name = b"other.bin".to_vec();
    assert!(refused(&zip_of(&[bomb, other])).contains("more than 512.0 MiB (at entry 'other.bin')"));
}

#[test]
fn bombs_that_lie_are_stopped_where_their_claim_ends() {
    let mut bytes = zeros(64 << 20);
    let directory = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    bytes[directory + 24..directory + 28].copy_from_slice(&1000u32.to_le_bytes());
    let yard = Yard::with(&bytes);
    let (refusal, grown) = growth(|| yard.refusal(&Limits::default()).to_string());
    assert!(
        refusal.contains("entry 'zeros' is damaged: file is larger than its declared uncompressed size"),
        "{refusal}"
    );
    assert!(grown < ROOM, "{grown} KiB");
}

#[test]
fn limits_can_be_raised_and_below_sixteen_mebibytes_a_ratio_is_ordinary() {
    let small = Yard::with(&zeros(16 << 20));
    assert_eq!(fs::metadata(small.unpack(&Limits::default()).unwrap().path().join("zeros")).unwrap().len(), 16 << 20);
    let yard = Yard::with(&zeros(17 << 20));
    assert!(yard.refusal(&Limits::default()).to_string().contains("max_ratio"));
    let (folder, grown) = growth(|| yard.unpack(&Limits { max_ratio: 2000, ..Limits::default() }).unwrap());
    assert_eq!(fs::metadata(folder.path().join("zeros")).unwrap().len(), 17 << 20);
    assert!(grown < ROOM, "{grown} KiB");
}

#[test]
fn an_archive_larger_than_what_it_may_hold_is_not_even_hashed() {
    let yard = Yard::with(&packed(&[("main.py", b"x")]));
    // sparse: takes no space
    File::options().write(true).open(yard.zip()).unwrap().set_len(10 << 30).unwrap();
    let archive = Archive::open(&yard.zip(), &yard.tmp()).unwrap();
    assert_eq!(
        archive.refuse_above(&Limits::default()).unwrap_err().to_string(),
        format!(
            "zip {}: has 10.0 GiB, more than the 512.0 MiB that it may unpack to: leave out what the function does not need, or raise max_total",
            yard.zip().display()
        )
    );
}

#[test]
fn archives_are_found_as_text_and_in_folders() {
    use base64::Engine;
    let bytes = packed(&[("main.py", b"x = 1")]);
    let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
    let wrapped: String =
        text.as_bytes().chunks(19).map(|line| format!(" {}\r\n", String::from_utf8_lossy(line))).collect();
    let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&bytes);
    let yard = Yard::new();
    let plain = ContentHash::of_bytes(&bytes);
    for text in [&text, &wrapped, &url_safe] {
        fs::write(yard.zip(), text).unwrap();
        let folder = yard.unpack(&Limits::default()).unwrap();
        assert_eq!(files(folder.path()), ["main.py"]);
        let mut archive = Archive::from_text(text, &yard.tmp()).unwrap();
        assert_eq!(hash(&mut archive).unwrap(), plain);
        assert_eq!(files(unpack(&mut archive, &Limits::default(), &yard.tmp()).unwrap().path()), ["main.py"]);
    }
    assert_eq!(
        Archive::from_text("def handler(): pass", &yard.tmp()).unwrap_err().to_string(),
        "base64 text of the zip: starts with 'def handler(): pass', not with the text of a zip (UEsD…): encode the archive with base64 -w0"
    );
    let broken = Archive::from_text(&format!("{}!!", &text[..40]), &yard.tmp()).unwrap_err();
    assert_eq!(broken.reason, Reason::Broken);
    assert!(broken.to_string().contains("is no valid base64"), "{broken}");

    // a mounted ConfigMap: the file behind two links
    let mount = yard.top.path().join("mount");
    fs::create_dir(mount.join("..2026")).unwrap();
    fs::rename(yard.zip(), mount.join("..2026/code.zip")).unwrap();
    std::os::unix::fs::symlink("..2026", mount.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/code.zip", mount.join("code.zip")).unwrap();
    fs::write(mount.join("README.txt"), "notes").unwrap();
    assert!(Archive::open(&mount, &yard.tmp()).unwrap().title.ends_with("mount/code.zip"));

    fs::write(mount.join("second.zip"), &bytes).unwrap();
    let title = format!("zip folder {}", mount.display());
    assert_eq!(
        Archive::open(&mount, &yard.tmp()).unwrap_err().to_string(),
        format!("{title}: holds 2 zips among 'README.txt', 'code.zip', 'second.zip': name the one to use")
    );
    let empty = Archive::open(&yard.tmp(), &yard.tmp()).unwrap_err();
    assert_eq!(empty.reason, Reason::Unsuitable);
    assert!(empty.to_string().contains("is an empty folder, as an absent optional ConfigMap"), "{empty}");
    fs::write(yard.tmp().join("notes.txt"), "x").unwrap();
    assert!(
        Archive::open(&yard.tmp(), &yard.tmp()).unwrap_err().to_string().contains("holds no zip, only 'notes.txt'")
    );
}

#[test]
fn what_is_no_file_is_named() {
    let yard = Yard::new();
    let missing = yard.unpack(&Limits::default()).unwrap_err();
    assert_eq!(missing.reason, Reason::Missing);
    assert!(missing.to_string().ends_with("f.zip does not exist: mount it there or correct the path"), "{missing}");

    let irregular = probe(Path::new("/dev/null")).unwrap_err();
    assert_eq!(irregular.reason, Reason::Unsuitable);
    assert_eq!(
        irregular.to_string(),
        "zip /dev/null: is a device, no regular file: provide the file or correct the path"
    );
}

#[test]
fn a_probe_tells_a_broken_zip_from_none_at_all() {
    let reason = |bytes: &[u8]| probe(&Yard::with(bytes).zip()).map_err(|refusal| refusal.reason);
    assert_eq!(reason(b"def handler(): pass"), Err(Reason::Unsuitable));
    assert_eq!(reason(b""), Err(Reason::Unsuitable));
    assert_eq!(reason(b"PK\x03\x04 cut off"), Ok(()));
    assert_eq!(reason(b"UEsDBBQAAAA"), Ok(()));
    assert_eq!(reason(&packed(&[("main.py", b"x")])), Ok(()));
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let yard = Yard::with(&packed(&[("main.py", b"x")]));
    // not even root can write there
    let refusal =
        unpack(&mut Archive::open(&yard.zip(), &yard.tmp()).unwrap(), &Limits::default(), Path::new("/proc/self"))
            .unwrap_err();
    assert_eq!(refusal.reason, Reason::Host);
    let text = refusal.to_string();
    assert!(text.contains("cannot be unpacked in /proc/self: "), "{text}");
    assert!(text.ends_with("(an emptyDir at /tmp) or set TMPDIR to one"), "{text}");
}

/// Whatever is done to a small archive: no panic, and nothing outside the folder.
#[test]
fn every_cut_and_every_changed_byte_ends_in_order() {
    let mut link = raw("pkg/link", b"x");
    link.flags = 8;
    let mut whole = Vec::new();
    for sample in [packed(&[("main.py", b"x = 1\n"), ("pkg/a.py", b"")]), zip_of(&[raw("a.py", b"1"), link])] {
        let yard = Yard::new();
        let tmp = yard.tmp();
        let check = |bytes: &[u8]| {
            if let Ok(folder) = unpack_from(Cursor::new(bytes), bytes.len() as u64, &Limits::default(), &tmp) {
                assert!(folder.path().starts_with(&tmp));
            }
            assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
        };
        for len in 0..sample.len() {
            check(&sample[..len]);
            check(&sample[len..]);
        }
        let mut changed = sample.clone();
        for at in 0..sample.len() {
            for value in [0, b'/', 0xff, sample[at] ^ 1, sample[at] ^ 0x80] {
                changed[at] = value;
                check(&changed);
            }
            changed[at] = sample[at];
        }
        // one archive behind the other: the last one counts
        whole.extend(sample);
        check(&whole);
        assert_eq!(fs::read_dir(yard.top.path()).unwrap().count(), 2, "written outside");
    }
}
