//! From a file to a function's entry points.
//!
//! What is loaded is a private copy in memory: the bytes that were judged, whatever happens to the file meanwhile, and
//! a file that is overwritten in place does not pull the code from under a running function.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::Path;

use gaugefn_sdk::abi;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use runtime_core::Fault;
use runtime_core::config::suggest;
use rustix::fs::{MemfdFlags, memfd_create};

use super::note;

/// More than any library has; what is larger is no library but a mistake.
const LARGEST: u64 = 1 << 30;

/// One function of a library that is never unloaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exported {
    /// The entry points; `call` is there.
    pub(super) function: abi::Function,
}

// SAFETY: its pointers are to code and constants of a library that is never unloaded
unsafe impl Send for Exported {}

/// Judges the file, loads it and finds the function `handler`.
pub(super) fn load(path: &Path, handler: &str) -> Result<Exported, Fault> {
    let bytes = read(path)?;
    let facet = note::judge(path, &bytes)?;
    let library = open(path, &bytes)?;
    let functions = functions(path, &library, &facet)?;
    // never unloaded: threads, hooks and exit handlers of the library may live on
    let _ = library.into_raw();
    let Some((_, function)) = functions.iter().find(|(name, _)| name == handler) else {
        return Err(absent(path, handler, &functions));
    };
    if function.call.is_none() {
        let name = path.display();
        return Err(Fault::function(format!("library {name}: function '{handler}' has no call: set it in its table")));
    }
    Ok(Exported { function: *function })
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let unreadable = |error: std::io::Error| {
        let text = format!("library {} cannot be read; let this user read it", path.display());
        Fault::function(text).caused_by(error)
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Fault::function(format!("library {} is larger than 1 GiB: strip it", path.display())));
    }
    Ok(bytes)
}

fn open(path: &Path, bytes: &[u8]) -> Result<Library, Fault> {
    let uncopied = |error: std::io::Error| {
        Fault::internal(format!("library {} cannot be copied into memory", path.display())).caused_by(error)
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let copy = memfd_create(&*name, MemfdFlags::CLOEXEC).map_err(|error| uncopied(error.into()))?;
    let mut copy = File::from(copy);
    copy.write_all(bytes).map_err(uncopied)?;
    let opened = format!("/proc/self/fd/{}", copy.as_raw_fd());
    // SAFETY: this runs the library's constructors; whoever configures a native function trusts its code
    let library = unsafe { Library::open(Some(&opened), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        let cause = cause.replace(&format!("{opened}: "), "");
        Fault::function(format!("library {}: cannot be loaded: {cause}; install what it needs", path.display()))
    })?;
    // open for good: the loader goes by names, and another copy must not get this one's
    let _ = copy.into_raw_fd();
    Ok(library)
}

/// All functions of the library by name.
fn functions(path: &Path, library: &Library, facet: &abi::Facet) -> Result<Vec<(String, abi::Function)>, Fault> {
    let refuse = |reason: String| Fault::function(format!("library {}: {reason}", path.display()));
    // SAFETY: the note promises that this symbol is such a descriptor
    let found = unsafe { library.get::<*const abi::Library>(abi::SYMBOL.as_bytes()) };
    let found = found.map_err(|error| refuse(format!("has no usable symbol {}: {error}", abi::SYMBOL)))?;
    // SAFETY: each descriptor begins with its size
    let size = unsafe { (*found).cast::<usize>().read() };
    if size < size_of::<abi::Library>() {
        return Err(refuse(format!(
            "its descriptor has {size} bytes, not {}: build it again",
            size_of::<abi::Library>()
        )));
    }
    // SAFETY: it has at least these fields
    let library = unsafe { (*found).read() };
    if library.abi_major != facet.abi_major {
        let (note, table) = (facet.abi_major, library.abi_major);
        return Err(refuse(format!("its note says ABI {note}, its descriptor {table}: build it again")));
    }
    if library.function_size < abi::FUNCTION_LEAST {
        let size = library.function_size;
        return Err(refuse(format!("its functions have {size} bytes, not {}: build it again", abi::FUNCTION_LEAST)));
    }
    let mut all = Vec::new();
    let count = library.function_count;
    for n in 0..count {
        // an older library has fewer fields, and a part of one is none
        let mut function = abi::Function::NONE;
        let known = library.function_size.min(size_of::<abi::Function>());
        let known = known - known % size_of::<usize>();
        // SAFETY: there are that many functions that far apart, each with at least `known` bytes
        unsafe {
            let from = library.functions.add(n * library.function_size);
            std::ptr::copy_nonoverlapping(from, (&raw mut function).cast::<u8>(), known);
        }
        // SAFETY: names are constants of the library
        let name = unsafe { function.name.text() }.unwrap_or_default();
        all.push((name, function));
    }
    Ok(all)
}

fn absent(path: &Path, handler: &str, functions: &[(String, abi::Function)]) -> Fault {
    let names: Vec<&str> = functions.iter().map(|(name, _)| name.as_str()).collect();
    let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let remedy = match suggest::nearest(handler, &names) {
        Some(name) => format!("did you mean '{name}'?"),
        None => "set handler to one of them".to_owned(),
    };
    Fault::function(format!("library {}: no function '{handler}', it exports {there}; {remedy}", path.display()))
}
