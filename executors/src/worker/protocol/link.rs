//! Readers and writers of frames: blocking ones for the child, async ones for the parent.
//!
//! A side that writes a large frame must not count on the other one reading at that moment: the parent reads in a
//! task of its own while it writes, so the child can always finish what it is writing.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ProtocolError;
use super::frame::{Frame, Splitter};

/// The least that is asked for in one read, which holds most batches of small events.
const SMALLEST_READ: usize = 16 << 10;

/// The most: memory follows what has really come, not what a header promises.
const LARGEST_READ: usize = 1 << 20;

/// A buffer that a large frame has stretched is given back above this size.
const KEPT: usize = 1 << 20;

fn wanted(splitter: &Splitter) -> usize {
    splitter.missing().clamp(SMALLEST_READ, LARGEST_READ)
}

/// Frames out of a blocking stream.
#[derive(Debug)]
pub struct BlockingReader<R> {
    from: R,
    splitter: Splitter,
}

impl<R: Read> BlockingReader<R> {
    /// Of a stream, usually a `UnixStream`.
    pub fn new(from: R) -> Self {
        Self { from, splitter: Splitter::default() }
    }

    /// The next frame; `None` where the other side has closed the stream between two frames.
    ///
    /// # Errors
    /// The stream failed, ended inside a frame, or holds something else than frames.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            if let Some(frame) = self.splitter.next_frame()? {
                return Ok(Some(frame));
            }
            let room = wanted(&self.splitter);
            let buffer = self.splitter.buffer();
            let filled = buffer.len();
            buffer.resize(filled + room, 0);
            let read = self.from.read(&mut buffer[filled..]);
            buffer.truncate(filled + read.as_ref().map_or(0, |read| *read));
            match read {
                Ok(0) => return self.splitter.end().map(|()| None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Frames into a blocking stream.
#[derive(Debug)]
pub struct BlockingWriter<W> {
    to: W,
    buffer: Vec<u8>,
}

impl<W: Write> BlockingWriter<W> {
    /// To a stream, usually a clone of the reader's.
    pub fn new(to: W) -> Self {
        Self { to, buffer: Vec::new() }
    }

    /// Writes the frames that `encode` appends, in one piece.
    ///
    /// # Errors
    /// A frame is too long, then nothing is written; or the stream failed.
    pub fn send(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        self.buffer.clear();
        encode(&mut self.buffer)?;
        self.to.write_all(&self.buffer)?;
        self.to.flush()?;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        Ok(())
    }
}

/// Frames out of an async stream.
#[derive(Debug)]
pub struct Incoming<R> {
    from: R,
    splitter: Splitter,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Of a stream, usually the reading half of a `UnixStream`.
    pub fn new(from: R) -> Self {
        Self { from, splitter: Splitter::default() }
    }

    /// The next frame; `None` where the other side has closed the stream between two frames. A future that is dropped
    /// loses nothing.
    ///
    /// # Errors
    /// The stream failed, ended inside a frame, or holds something else than frames.
    pub async fn next_frame(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            if let Some(frame) = self.splitter.next_frame()? {
                return Ok(Some(frame));
            }
            let room = wanted(&self.splitter);
            let buffer = self.splitter.buffer();
            buffer.reserve(room);
            if self.from.read_buf(buffer).await? == 0 {
                return self.splitter.end().map(|()| None);
            }
        }
    }
}

/// Frames into an async stream.
#[derive(Debug)]
pub struct Outgoing<W> {
    to: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// To a stream, usually the writing half of a `UnixStream`.
    pub fn new(to: W) -> Self {
        Self { to, buffer: Vec::new() }
    }

    /// Writes the frames that `encode` appends. A future that is dropped may leave a piece of a frame behind: the
    /// stream is of no use afterwards.
    ///
    /// # Errors
    /// A frame is too long, then nothing is written; or the stream failed.
    pub async fn send(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        self.buffer.clear();
        encode(&mut self.buffer)?;
        self.to.write_all(&self.buffer).await?;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{BatchRef, Hello, Kind, Rare, frame};
    use super::*;
    use crate::worker::protocol::Batch;
    use runtime_core::contract::Event;
    use std::os::unix::net::UnixStream;
    use std::thread;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn both_sides_understand_each_other() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = thread::spawn(move || {
            let mut reader = BlockingReader::new(theirs.try_clone().unwrap());
            let mut writer = BlockingWriter::new(theirs);
            writer.send(|out| Hello::own().encode(out)).unwrap();
            let mut lengths = Vec::new();
            while let Some(frame) = reader.next_frame().unwrap() {
                let batch = Batch::decode(frame.expect(Kind::Batch).unwrap()).unwrap();
                lengths.push((batch.id, batch.events[0].payload.len()));
                writer
                    .send(|out| {
                        frame::encode_bare(out, Kind::TookOver);
                        Ok(())
                    })
                    .unwrap();
            }
            lengths
        });
        runtime().block_on(async {
            ours.set_nonblocking(true).unwrap();
            let (read, write) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
            let (mut incoming, mut outgoing) = (Incoming::new(read), Outgoing::new(write));
            let hello = incoming.next_frame().await.unwrap().unwrap().expect(Kind::Hello).unwrap();
            Hello::decode(&hello).unwrap().check().unwrap();
            // the third is larger than any buffer on the way
            for (id, size) in [(1, 0), (2, 100_000), (3, 20 << 20)] {
                let events = [Event::new("e", vec![1; size])];
                let batch = BatchRef { id, events: &events, ..BatchRef::default() };
                outgoing.send(|out| batch.encode(out)).await.unwrap();
                assert_eq!(incoming.next_frame().await.unwrap().unwrap().kind, Kind::TookOver);
            }
            assert!(outgoing.buffer.capacity() <= KEPT, "a large frame's buffer was kept");
        });
        assert_eq!(child.join().unwrap(), [(1, 0), (2, 100_000), (3, 20 << 20)]);
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error_on_both_sides() {
        let mut bytes = Vec::new();
        Hello::own().encode(&mut bytes).unwrap();
        let whole = bytes.clone();
        bytes.pop();
        let mut blocking = BlockingReader::new(&bytes[..]);
        assert!(matches!(blocking.next_frame(), Err(ProtocolError::Cut)));
        runtime().block_on(async {
            assert!(matches!(Incoming::new(&bytes[..]).next_frame().await, Err(ProtocolError::Cut)));
            let mut incoming = Incoming::new(&whole[..]);
            assert!(incoming.next_frame().await.unwrap().is_some());
            assert!(incoming.next_frame().await.unwrap().is_none());
        });
    }

    #[test]
    fn a_frame_that_promises_much_and_brings_little_costs_little() {
        let mut bytes = (1_u32 << 29).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[5, 0, 0, 0, 1, 2, 3]);
        let mut reader = BlockingReader::new(&bytes[..]);
        assert!(reader.next_frame().is_err());
        assert!(reader.splitter.buffer().capacity() <= 4 * LARGEST_READ);
    }
}
