//! Archives for the tests, made byte by byte: a proper packer refuses to write most of them.

#![allow(clippy::unwrap_used)]

use std::io::{Cursor, Read, Write};
use zip::write::SimpleFileOptions;

/// One entry, with every field that a hostile packer would set.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) crc: u32,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) claimed: u64,
    pub(super) attributes: u32,
    pub(super) system: u16,
    /// Instead of the place where its local header really is.
    pub(super) header: Option<u32>,
}

pub(super) fn raw(name: impl AsRef<[u8]>, data: &[u8]) -> Raw {
    Raw {
        name: name.as_ref().to_vec(),
        data: data.to_vec(),
        crc: crc32(data),
        method: 0,
        flags: 0,
        claimed: data.len() as u64,
        attributes: 0o100_644 << 16,
        system: 3,
        header: None,
    }
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// Writes an archive of these entries, with a zip64 end where their number needs one.
pub(super) fn write_raw(out: &mut impl Write, entries: impl Iterator<Item = Raw>) {
    let (mut at, mut count, mut directory) = (0u64, 0u64, Vec::new());
    for entry in entries {
        let big = entry.claimed > u64::from(u32::MAX);
        let shared = |to: &mut Vec<u8>, extra: u16| {
            to.extend(20u16.to_le_bytes());
            to.extend(entry.flags.to_le_bytes());
            to.extend(entry.method.to_le_bytes());
            to.extend([0; 4]);
            to.extend(entry.crc.to_le_bytes());
            to.extend((entry.data.len() as u32).to_le_bytes());
            to.extend(if big { u32::MAX } else { entry.claimed as u32 }.to_le_bytes());
            to.extend((entry.name.len() as u16).to_le_bytes());
            to.extend(extra.to_le_bytes());
        };
        let mut local = b"PK\x03\x04".to_vec();
        shared(&mut local, 0);
        local.extend(&entry.name);
        local.extend(&entry.data);
        out.write_all(&local).unwrap();

        directory.extend(b"PK\x01\x02");
        directory.extend((entry.system << 8 | 20).to_le_bytes());
        shared(&mut directory, if big { 12 } else { 0 });
        directory.extend([0; 6]);
        directory.extend(entry.attributes.to_le_bytes());
        directory.extend(entry.header.unwrap_or(at as u32).to_le_bytes());
        directory.extend(&entry.name);
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
    end.extend(b"PK\x05\x06\0\0\0\0");
    let short = count.min(0xffff) as u16;
    end.extend(short.to_le_bytes());
    end.extend(short.to_le_bytes());
    end.extend((directory.len() as u32).to_le_bytes());
    end.extend((at as u32).to_le_bytes());
    end.extend([0, 0]);
    out.write_all(&end).unwrap();
}

pub(super) fn zip_of(entries: &[Raw]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_raw(&mut bytes, entries.iter().cloned());
    bytes
}

/// What `zip` and Python's zipfile write.
pub(super) fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in files {
        let options = SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Deflated);
        if let Some(folder) = name.strip_suffix('/') {
            zip.add_directory(folder, options).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(data).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

/// A deflated entry that really unpacks to this many zeros.
pub(super) fn zeros(len: u64) -> Vec<u8> {
    let mut zip = ::zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("zeros", SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Deflated))
        .unwrap();
    std::io::copy(&mut std::io::repeat(0).take(len), &mut zip).unwrap();
    zip.finish().unwrap().into_inner()
}
