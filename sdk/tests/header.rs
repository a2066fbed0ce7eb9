//! The C header says what the crate says: a C file with an assertion for each size, offset and number is compiled.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs::write;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use gaugefn_sdk::Level;
use gaugefn_sdk::abi;
use gaugefn_sdk::context::Measure;

/// Of each structure its C name, its size, and its fields with their offsets, in order.
macro_rules! layouts {
    ($($rust:ty as $c:literal { $($field:ident),+ $(,)? })+) => {
        &[$(($c, size_of::<$rust>(), align_of::<$rust>(), &[$((stringify!($field), offset_of!($rust, $field))),+])),+]
    };
}

type Layout = (&'static str, usize, usize, &'static [(&'static str, usize)]);

const LAYOUTS: &[Layout] = layouts! {
    abi::Slice as "gaugefn_slice" { data, len }
    abi::Label as "gaugefn_label" { key, value }
    abi::Host as "gaugefn_host" {
        size, handle, log, measure, function_name, host, input_key, output_key, function_mtime, port,
    }
    abi::Event as "gaugefn_event" { id, payload, attempt }
    abi::Outcome as "gaugefn_outcome" { status, value, report }
    abi::Call as "gaugefn_call" { size, count, events, event_size, outcomes, outcome_size, remaining }
    abi::Function as "gaugefn_function" { name, open, call, release, close, save, load }
    abi::Entry as "gaugefn_entry" { key, value }
    abi::Save as "gaugefn_save" { size, handle, put, lose }
    abi::Load as "gaugefn_load" { size, count, entries, entry_size, handle, refuse }
    abi::Library as "gaugefn_library_table" {
        size, abi_major, abi_minor, panic, sdk_version, functions, function_count, function_size,
    }
    abi::Facet as "gaugefn_facet" { size, abi_major, abi_minor, panic, sdk_version, target }
};

const NUMBERS: &[(&str, i64)] = &[
    ("GAUGEFN_ABI_MAJOR", abi::MAJOR as i64),
    ("GAUGEFN_ABI_MINOR", abi::MINOR as i64),
    ("GAUGEFN_PANIC_NONE", abi::PANIC_NONE as i64),
    ("GAUGEFN_PANIC_UNWIND", abi::PANIC_UNWIND as i64),
    ("GAUGEFN_PANIC_ABORT", abi::PANIC_ABORT as i64),
    ("GAUGEFN_UNSET", abi::UNSET as i64),
    ("GAUGEFN_EMPTY", abi::EMPTY as i64),
    ("GAUGEFN_OUTPUT", abi::OUTPUT as i64),
    ("GAUGEFN_FAILED", abi::FAILED as i64),
    ("GAUGEFN_UNUSABLE", abi::UNUSABLE as i64),
    ("GAUGEFN_ERROR", Level::Error as i64),
    ("GAUGEFN_WARN", Level::Warn as i64),
    ("GAUGEFN_INFO", Level::Info as i64),
    ("GAUGEFN_DEBUG", Level::Debug as i64),
    ("GAUGEFN_TRACE", Level::Trace as i64),
    ("GAUGEFN_COUNT", Measure::Count as i64),
    ("GAUGEFN_GAUGE", Measure::Gauge as i64),
    ("GAUGEFN_OBSERVE", Measure::Observe as i64),
    ("GAUGEFN_NO_LIMIT", abi::NO_LIMIT),
];

fn compile(folder: &Path, text: &str, flags: &[&str]) -> Result<(), String> {
    let source = folder.join("agrees.c");
    write(&source, text).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"]).arg(include).args(flags);
    let output = cc.arg(&source).current_dir(folder).output().expect("a C compiler: apt-get install gcc libc6-dev");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn every_size_offset_and_number_agrees() {
    let mut text = "#include \"gaugefn.h\"\n".to_owned();
    let mut assert = |left: String, right: i64| {
        writeln!(text, "_Static_assert({left} == {right}, \"{left} is not {right}\");").unwrap();
    };
    for (name, size, align, fields) in LAYOUTS {
        assert(format!("sizeof({name})"), *size as i64);
        assert(format!("_Alignof({name})"), *align as i64);
        for (field, offset) in *fields {
            assert(format!("offsetof({name}, {field})"), *offset as i64);
        }
    }
    assert("sizeof(gaugefn_note)".to_owned(), size_of::<abi::Note>() as i64);
    for (name, number) in NUMBERS {
        assert(format!("(long long){name}"), *number);
    }
    compile(&folder("agrees"), &text, &["-fsyntax-only"]).unwrap();
    // and the compiler does look
    let wrong = format!("{text}_Static_assert(sizeof(gaugefn_call) == 1, \"wrong\");\n");
    assert!(compile(&folder("disagrees"), &wrong, &["-fsyntax-only"]).unwrap_err().contains("wrong"));
}

#[test]
fn texts_agree() {
    let folder = folder("texts");
    let text = "#include \"gaugefn.h\"\n#include <stdio.h>\n\
                int main(void) { return printf(\"%s %s\", GAUGEFN_SDK_VERSION, GAUGEFN_TARGET) < 0; }\n";
    compile(&folder, text, &["-o", "texts"]).unwrap();
    let printed = Command::new(folder.join("texts")).output().unwrap().stdout;
    let wanted = format!("{} {}", abi::SDK_VERSION, abi::TARGET.as_str());
    assert_eq!(String::from_utf8(printed).unwrap(), wanted, "mend include/gaugefn.h");
}
