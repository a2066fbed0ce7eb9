//! Headers, and frames out of a stream of bytes however it is cut.

use bytes::{Buf, Bytes, BytesMut};

use super::ProtocolError;

/// The longest body, in bytes: above what one Redis value can hold (512 MiB), far below what damage would ask for.
pub const MAX_BODY: usize = 1 << 30;

const HEADER: usize = 8;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// [`Hello`](super::Hello): the child's first frame.
    Hello = 1,
    /// [`Prepare`](super::Prepare): load a function.
    Prepare = 2,
    /// [`Ready`](super::Ready): it is loaded.
    Ready = 3,
    /// [`Refused`](super::Refused): the answer to any request that failed.
    Refused = 4,
    /// [`Batch`](super::Batch): call the function.
    Batch = 5,
    /// [`Outcomes`](super::Outcomes): what became of a batch.
    Outcomes = 6,
    /// Give the state away; no body.
    HandOver = 7,
    /// [`HandedOver`](super::HandedOver): the state.
    HandedOver = 8,
    /// [`TakeOver`](super::TakeOver): begin with this state.
    TakeOver = 9,
    /// The state was taken; no body.
    TookOver = 10,
    /// Run what the function registered for its end; no body.
    Close = 11,
    /// The function has ended and the process ends now; no body.
    Closed = 12,
    /// Parent: make ready what every function of the executor needs; the body is that of `Prepare`.
    Warm = 13,
    /// Child: what the function measured.
    Measures = 14,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Hello,
        Self::Prepare,
        Self::Ready,
        Self::Refused,
        Self::Batch,
        Self::Outcomes,
        Self::HandOver,
        Self::HandedOver,
        Self::TakeOver,
        Self::TookOver,
        Self::Close,
        Self::Closed,
        Self::Warm,
        Self::Measures,
    ];

    fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Zero in this version; bits that are not known are ignored.
    pub flags: u16,
    /// Its content. Slices of it keep the buffer that it was read into.
    pub body: Bytes,
}

impl Frame {
    /// The body, if this is the frame that is due.
    ///
    /// # Errors
    /// It is another one.
    pub fn expect(self, expected: Kind) -> Result<Bytes, ProtocolError> {
        if self.kind == expected { Ok(self.body) } else { Err(ProtocolError::Unexpected { expected, got: self.kind }) }
    }
}

/// Appends a frame whose body `fill` writes. After an error, `out` is as it was.
///
/// # Errors
/// The body is longer than [`MAX_BODY`], or `fill` failed.
pub fn encode(
    out: &mut Vec<u8>,
    kind: Kind,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    encode_within(MAX_BODY, out, kind, fill)
}

fn encode_within(
    limit: usize,
    out: &mut Vec<u8>,
    kind: Kind,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let filled = fill(out).and_then(|()| {
        let length = out.len() - start - HEADER;
        match u32::try_from(length) {
            Ok(short) if length <= limit => Ok(short),
            _ => Err(ProtocolError::TooLong { kind: format!("{kind:?}"), length }),
        }
    });
    match filled {
        Ok(length) => {
            out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            out[start + 4..start + 6].copy_from_slice(&(kind as u16).to_le_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends a frame that has no body.
pub fn encode_bare(out: &mut Vec<u8>, kind: Kind) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(kind as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
}

/// Cuts a stream of bytes into frames.
///
/// Whoever reads appends to [`buffer`](Self::buffer) and then takes frames until there is none.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
    /// Bytes still to come of a frame of an unknown kind, which are thrown away as they come.
    skip: usize,
}

impl Splitter {
    /// Where bytes that were read are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next complete frame of a known kind.
    ///
    /// # Errors
    /// A length above [`MAX_BODY`]. The stream cannot be read any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            let skipped = self.skip.min(self.buffer.len());
            self.buffer.advance(skipped);
            self.skip -= skipped;
            let Some((length, kind, flags)) = self.header() else { return Ok(None) };
            if length > MAX_BODY {
                let kind = Kind::of(kind).map_or_else(|| kind.to_string(), |kind| format!("{kind:?}"));
                return Err(ProtocolError::TooLong { kind, length });
            }
            let Some(kind) = Kind::of(kind) else {
                self.buffer.advance(HEADER);
                self.skip = length;
                continue;
            };
            if self.buffer.len() - HEADER < length {
                return Ok(None);
            }
            self.buffer.advance(HEADER);
            return Ok(Some(Frame { kind, flags, body: self.buffer.split_to(length).freeze() }));
        }
    }

    /// How many bytes are missing at least until there is something to take.
    #[must_use]
    pub fn missing(&self) -> usize {
        match self.header() {
            // an oversized one has nothing to wait for: the next take says so
            Some((length, ..)) if self.skip == 0 && length <= MAX_BODY => {
                (HEADER + length).saturating_sub(self.buffer.len())
            }
            _ => self.skip + HEADER.saturating_sub(self.buffer.len()),
        }
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// A frame has begun.
    pub fn end(&self) -> Result<(), ProtocolError> {
        if self.skip == 0 && self.buffer.is_empty() { Ok(()) } else { Err(ProtocolError::Cut) }
    }

    fn header(&self) -> Option<(usize, u16, u16)> {
        let mut header = self.buffer.get(..HEADER)?;
        Some((header.get_u32_le() as usize, header.get_u16_le(), header.get_u16_le()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any kind, known or not, and a body.
    fn frames() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
        proptest::collection::vec((0_u16..20, proptest::collection::vec(any::<u8>(), 0..300)), 0..12)
    }

    fn stream(frames: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (kind, body) in frames {
            out.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(body);
        }
        out
    }

    fn take(splitter: &mut Splitter) -> Vec<(u16, Vec<u8>)> {
        let next = || splitter.next_frame().unwrap().map(|frame| (frame.kind as u16, frame.body.to_vec()));
        std::iter::from_fn(next).collect()
    }

    proptest! {
        #[test]
        fn frames_come_out_of_any_pieces(frames in frames(), cuts in proptest::collection::vec(1_usize..64, 1..40)) {
            let bytes = stream(&frames);
            let known: Vec<_> = frames.into_iter().filter(|(kind, _)| Kind::of(*kind).is_some()).collect();
            let mut splitter = Splitter::default();
            let (mut got, mut rest, mut cuts) = (Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                splitter.buffer().extend_from_slice(piece);
                got.extend(take(&mut splitter));
                prop_assert!(splitter.missing() > 0);
                rest = later;
            }
            prop_assert_eq!(got, known);
            prop_assert!(splitter.end().is_ok());
        }

        #[test]
        fn a_stream_that_ends_early_is_cut(frames in frames(), share in 0.0..1.0) {
            let bytes = stream(&frames);
            let at = (bytes.len() as f64 * share) as usize;
            let mut splitter = Splitter::default();
            splitter.buffer().extend_from_slice(&bytes[..at]);
            take(&mut splitter);
            let (mut ends, mut end) = (vec![0], 0);
            for (_, body) in &frames {
                end += HEADER + body.len();
                ends.push(end);
            }
            prop_assert_eq!(splitter.end().is_ok(), ends.contains(&at));
        }

        #[test]
        fn garbage_neither_panics_nor_asks_for_much(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut splitter = Splitter::default();
            splitter.buffer().extend_from_slice(&bytes);
            while let Ok(Some(_)) = splitter.next_frame() {}
            prop_assert!(splitter.missing() <= MAX_BODY + HEADER);
            prop_assert!(splitter.buffer.capacity() < 4096);
        }
    }

    #[test]
    fn a_body_that_is_too_long_is_refused_on_both_sides() {
        let mut out = b"before".to_vec();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(&[7; 11]);
            Ok(())
        };
        let error = encode_within(10, &mut out, Kind::Batch, fill).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a Batch frame has 11 bytes, the limit is 1073741824: make batches or payloads smaller"
        );
        assert_eq!(out, b"before");

        let mut splitter = Splitter::default();
        splitter.buffer().extend_from_slice(&[255; HEADER]);
        let error = splitter.next_frame().unwrap_err().to_string();
        assert_eq!(
            error,
            "a 65535 frame has 4294967295 bytes, the limit is 1073741824: make batches or payloads smaller"
        );
    }

    #[test]
    fn bodies_share_the_buffer_that_was_read() {
        let mut out = Vec::new();
        for text in ["one", "two"] {
            encode(&mut out, Kind::Prepare, |out| {
                out.extend_from_slice(text.as_bytes());
                Ok(())
            })
            .unwrap();
        }
        encode_bare(&mut out, Kind::Close);
        let mut splitter = Splitter::default();
        splitter.buffer().extend_from_slice(&out);
        let first = splitter.next_frame().unwrap().unwrap();
        let second = splitter.next_frame().unwrap().unwrap();
        assert_eq!(second.body.as_ptr() as usize - first.body.as_ptr() as usize, 3 + HEADER);
        let last = splitter.next_frame().unwrap().unwrap();
        assert_eq!((last.kind, last.body.len()), (Kind::Close, 0));
        let error = last.expect(Kind::Batch).unwrap_err();
        assert_eq!(error.to_string(), "expected a Batch frame, got Close");
    }
}
