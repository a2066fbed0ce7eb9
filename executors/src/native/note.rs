//! What an ELF file says of itself, read before any of its code is loaded.

use std::path::Path;

use gaugefn_sdk::abi::{self, Facet, Text};
use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use runtime_core::Fault;

#[cfg(target_pointer_width = "64")]
type Header = elf::FileHeader64<Endianness>;
#[cfg(target_pointer_width = "32")]
type Header = elf::FileHeader32<Endianness>;

/// Architectures by name, for messages and to know our own.
const MACHINES: &[(&str, elf::Machine)] = &[
    ("x86_64", elf::EM_X86_64),
    ("aarch64", elf::EM_AARCH64),
    ("x86", elf::EM_386),
    ("arm", elf::EM_ARM),
    ("riscv64", elf::EM_RISCV),
    ("powerpc64", elf::EM_PPC64),
    ("s390x", elf::EM_S390),
    ("loongarch64", elf::EM_LOONGARCH),
];

const REBUILD: &str = "build it with gaugefn-sdk as a cdylib, or with gaugefn.h";

/// Refuses what must not be loaded, with one line for each reason.
pub(super) fn judge(path: &Path, bytes: &[u8]) -> Result<Facet, Fault> {
    examine(bytes).map_err(|reason| Fault::function(format!("library {}: {reason}", path.display())))
}

fn examine(bytes: &[u8]) -> Result<Facet, String> {
    if bytes.is_empty() {
        return Err("is empty: copy it again".to_owned());
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        return Err(format!("is no ELF file, as a shared library on Linux is: {REBUILD}"));
    }
    if bytes.len() < size_of::<Header>() {
        return Err(cut("its header", size_of::<Header>() as u64, bytes));
    }
    machine(bytes)?;
    let unreadable = |error: object::Error| format!("is no valid ELF file ({error}): build it again");
    let header = Header::parse(bytes).map_err(unreadable)?;
    let endian = header.endian().map_err(unreadable)?;
    if header.e_type(endian) != elf::ET_DYN {
        return Err(format!("is an ELF file, but no shared library: {REBUILD}"));
    }
    whole(header, endian, bytes)?;
    let facet = match note(header, endian, bytes)? {
        Some(facet) => facet,
        None => return Err(without_note(header, endian, bytes)),
    };
    agrees(&facet)?;
    exports(header, endian, bytes).map_err(unreadable)?.then_some(facet).ok_or_else(|| {
        format!("has no symbol {}: export its functions by export!, and do not hide symbols", abi::SYMBOL)
    })
}

/// A place beyond the end of the file.
fn cut(what: &str, end: u64, bytes: &[u8]) -> String {
    format!("is truncated: {what} ends at byte {end}, the file at byte {}; copy it again", bytes.len())
}

/// Word size, byte order and architecture are this process's own.
fn machine(bytes: &[u8]) -> Result<(), String> {
    let ours = std::env::consts::ARCH;
    let (class, order) = (bytes[4], bytes[5]);
    let big = order == 2;
    let number = if big { [bytes[18], bytes[19]] } else { [bytes[19], bytes[18]] };
    let number = u16::from_be_bytes(number);
    let named = MACHINES.iter().find(|(_, machine)| machine.0 == number);
    let same_width = class == if cfg!(target_pointer_width = "64") { 2 } else { 1 };
    let same_order = big == cfg!(target_endian = "big");
    match named {
        Some((name, _)) if *name == ours && same_width && same_order => Ok(()),
        _ => {
            let theirs = named.map_or_else(|| format!("machine {number}"), |(name, _)| (*name).to_owned());
            let bits = if class == 1 { 32 } else { 64 };
            let ends = if big { "big" } else { "little" };
            Err(format!(
                "is built for {theirs} ({bits} bits, {ends} endian), this process is {ours}: build it for {ours}"
            ))
        }
    }
}

/// Every segment and section lies inside the file.
fn whole(header: &Header, endian: Endianness, bytes: &[u8]) -> Result<(), String> {
    let length = bytes.len() as u64;
    let table = |offset: u64, size: u16, count: u16| offset.saturating_add(u64::from(size) * u64::from(count));
    let tables = [
        ("its table of segments", header.e_phoff(endian), header.e_phentsize(endian), header.e_phnum(endian)),
        ("its table of sections", header.e_shoff(endian), header.e_shentsize(endian), header.e_shnum(endian)),
    ];
    for (what, offset, size, count) in tables {
        #[allow(clippy::useless_conversion, reason = "a word of 32 bits elsewhere")]
        let end = table(u64::from(offset), size, count);
        if end > length {
            return Err(cut(what, end, bytes));
        }
    }
    let unreadable = |error: object::Error| format!("is no valid ELF file ({error}): build it again");
    let segments = header.program_headers(endian, bytes).map_err(unreadable)?;
    for (n, segment) in segments.iter().enumerate() {
        let (offset, size) = segment.file_range(endian);
        let end = offset.saturating_add(size);
        if end > length {
            return Err(cut(&format!("segment {n}"), end, bytes));
        }
    }
    for (n, section) in header.section_headers(endian, bytes).map_err(unreadable)?.iter().enumerate() {
        let Some((offset, size)) = section.file_range(endian) else { continue };
        let end = offset.saturating_add(size);
        if end > length {
            return Err(cut(&format!("section {n}"), end, bytes));
        }
    }
    if !segments.iter().any(|segment| segment.p_type(endian) == elf::PT_LOAD) {
        return Err("has no segment to load: strip removed too much; build it again".to_owned());
    }
    Ok(())
}

/// The note of the library.
fn note(header: &Header, endian: Endianness, bytes: &[u8]) -> Result<Option<Facet>, String> {
    let broken = |error: object::Error| format!("has notes that cannot be read ({error}): build it again");
    for segment in header.program_headers(endian, bytes).map_err(broken)? {
        let Some(mut notes) = segment.notes(endian, bytes).map_err(broken)? else { continue };
        while let Some(note) = notes.next().map_err(broken)? {
            if note.name_bytes() == abi::NOTE_OWNER && note.n_type(endian).0 == abi::NOTE_TYPE {
                return facet(note.desc()).map(Some);
            }
        }
    }
    Ok(None)
}

/// What a library is that has no note.
fn without_note(header: &Header, endian: Endianness, bytes: &[u8]) -> String {
    // as many modules are, one of them is enough
    let module = symbols(header, endian, bytes, |name| name.starts_with(b"PyInit_"));
    match module.unwrap_or_default() {
        Some(name) => format!(
            "is an extension module of Python ({}), which is imported by a function and is none itself: name the .py \
             file that imports it",
            String::from_utf8_lossy(&name)
        ),
        None => format!("has no gaugefn note, so it is no library of functions: {REBUILD}"),
    }
}

/// The note's content, of which later minors may have more.
fn facet(content: &[u8]) -> Result<Facet, String> {
    let least = size_of::<Facet>();
    let word = |n: usize| {
        let bytes = content.get(n * 4..n * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    let size = word(0);
    if content.len() < least || (size as usize) < least || size as usize > content.len() {
        return Err(format!(
            "has an incomplete gaugefn note ({} of at least {least} bytes, {size} by its own account): build it again",
            content.len()
        ));
    }
    let (mut sdk_version, mut target) = ([0; 32], [0; 64]);
    sdk_version.copy_from_slice(&content[16..48]);
    target.copy_from_slice(&content[48..112]);
    Ok(Facet {
        size,
        abi_major: word(1),
        abi_minor: word(2),
        panic: word(3),
        sdk_version: Text(sdk_version),
        target: Text(target),
    })
}

fn agrees(facet: &Facet) -> Result<(), String> {
    let Facet { abi_major, abi_minor, sdk_version, target, .. } = facet;
    let sdk = sdk_version.as_str();
    if *abi_major != abi::MAJOR {
        let (ours, minor) = (abi::MAJOR, abi::MINOR);
        return Err(format!(
            "speaks ABI {abi_major}.{abi_minor} (sdk {sdk}), this gaugefn speaks {ours}.{minor}: build it with the \
             gaugefn-sdk of ABI {ours}"
        ));
    }
    if target.as_str() != abi::TARGET.as_str() {
        let (theirs, ours) = (target.as_str(), abi::TARGET);
        return Err(format!("is built for {theirs}, this gaugefn for {}: build it for that", ours.as_str()));
    }
    match facet.panic {
        abi::PANIC_NONE | abi::PANIC_UNWIND => Ok(()),
        abi::PANIC_ABORT => Err("is built with panic = \"abort\", so that one bad event would end everything: build \
             it with panic = \"unwind\""
            .to_owned()),
        other => Err(format!("has the panic strategy {other}, which is unknown: build it with panic = \"unwind\"")),
    }
}

/// Whether the descriptor can be looked up.
fn exports(header: &Header, endian: Endianness, bytes: &[u8]) -> object::Result<bool> {
    symbols(header, endian, bytes, |name| name == abi::SYMBOL.as_bytes()).map(|found| found.is_some())
}

/// The name of the first symbol for others that is like this.
fn symbols(
    header: &Header,
    endian: Endianness,
    bytes: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
) -> object::Result<Option<Vec<u8>>> {
    let sections = header.sections(endian, bytes)?;
    let symbols = sections.symbols(endian, bytes, elf::SHT_DYNSYM)?;
    for symbol in symbols.iter() {
        let name = symbols.symbol_name(endian, symbol)?;
        if !symbol.is_undefined(endian) && wanted(name) {
            return Ok(Some(name.to_vec()));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// An ELF file that is no library of functions: this test itself.
    fn sample() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_program_has_no_note() {
        let reason = examine(&sample()).unwrap_err();
        assert!(reason.starts_with("has no gaugefn note"), "{reason}");
    }

    #[test]
    fn whatever_is_cut_off_is_missed() {
        let sample = sample();
        let step = sample.len() / 300 + 1;
        for length in (5..sample.len()).step_by(step).chain([sample.len() - 1]) {
            let reason = examine(&sample[..length]).unwrap_err();
            assert!(reason.starts_with("is truncated: "), "{length} bytes: {reason}");
        }
    }

    #[test]
    fn damage_is_an_answer_and_no_panic() {
        let mut sample = sample();
        // header and table of segments, where every number is believed first
        for at in 4..800 {
            let before = sample[at];
            for value in [0, 1, 0x7f, 0xff] {
                sample[at] = value;
                let _ = examine(&sample).unwrap_err();
            }
            sample[at] = before;
        }
    }

    #[test]
    fn a_note_may_have_more_and_not_less() {
        let words = |size: u32| [size, 1, 9, 1].map(u32::to_ne_bytes).concat();
        let note = |size: u32, length: usize| {
            let mut content = words(size);
            content.resize(length, 0);
            facet(&content)
        };
        assert_eq!(note(112, 112).unwrap().abi_minor, 9);
        assert_eq!(note(200, 200).unwrap().size, 200);
        for (size, length) in [(112, 111), (111, 112), (200, 112), (0, 112), (0, 0)] {
            assert!(note(size, length).unwrap_err().contains("incomplete gaugefn note"), "{size} {length}");
        }
    }
}
