//! The smallest pieces of a frame's body: little-endian numbers, and bytes and texts behind their length.

use bytes::{Buf, Bytes};

use super::ProtocolError;

/// Appends bytes behind their length. A length that does not fit belongs to a frame that is refused as a whole.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the number of things that follow.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// Appends a value that may be missing.
pub(super) fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// What is still to be read of a body. Bytes are slices of it, never copies.
pub(super) struct Rest(pub(super) Bytes);

impl Rest {
    pub(super) fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.0.try_get_u8().map_err(|_| ProtocolError::Short)
    }

    pub(super) fn bool(&mut self) -> Result<bool, ProtocolError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ProtocolError::Malformed("neither yes nor no")),
        }
    }

    pub(super) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.0.try_get_u32_le().map_err(|_| ProtocolError::Short)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ProtocolError> {
        self.0.try_get_u64_le().map_err(|_| ProtocolError::Short)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, ProtocolError> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(ProtocolError::Short);
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn text(&mut self) -> Result<String, ProtocolError> {
        let bytes = Vec::from(self.bytes()?);
        String::from_utf8(bytes).map_err(|_| ProtocolError::Malformed("a text is not utf-8"))
    }

    pub(super) fn option<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Option<T>, ProtocolError> {
        match self.u8()? {
            0 => Ok(None),
            1 => get(self).map(Some),
            _ => Err(ProtocolError::Malformed("neither a value nor none")),
        }
    }

    /// A list, each of whose items takes at least `smallest` bytes: a damaged count cannot ask for much memory.
    pub(super) fn list<T>(
        &mut self,
        smallest: usize,
        mut get: impl FnMut(&mut Self) -> Result<T, ProtocolError>,
    ) -> Result<Vec<T>, ProtocolError> {
        let count = self.u32()? as usize;
        if count > self.0.len() / smallest {
            return Err(ProtocolError::Short);
        }
        (0..count).map(|_| get(self)).collect()
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), ProtocolError> {
        if self.0.is_empty() { Ok(()) } else { Err(ProtocolError::Malformed("more bytes than its content needs")) }
    }
}
