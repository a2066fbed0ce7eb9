//! What parent and child say to each other over their socket.
//!
//! A frame is a header of eight bytes and a body. The header is the body's length (u32), the kind (u16) and flags
//! (u16, all zero in this version), little-endian. Unknown kinds are skipped by their length and unknown flags are
//! ignored, so that a minor version can add some. What travels for each batch is binary, what travels once is JSON.
//!
//! ```text
//!   parent                                   child
//!     <── Hello ─────────────────────────────  versions, process
//!     ─── Warm ─────────────────────────────>  executor, options
//!     <── Ready | Refused ───────────────────
//!     ─── Prepare ──────────────────────────>  module, executor, options
//!     <── Ready | Refused ───────────────────
//!     ─── Batch 1 ──────────────────────────>
//!     ─── Batch 2 ──────────────────────────>  two in flight: the child never waits
//!     <── Measures ── Outcomes 1 ────────────
//!     ─── HandOver | TakeOver | Close ──────>
//!     <── HandedOver | TookOver | Closed | Refused
//! ```
//!
//! * [`frame`] - headers, and frames out of a stream of bytes
//! * [`batch`] - events on their way to the function
//! * [`outcome`] - what became of them, also the form of the shared area
//! * [`legacy`] - the state on its way from one worker to the next
//! * [`measures`] - what the function measured
//! * [`rare`] - the JSON frames
//! * [`link`](mod@link) - readers and writers: blocking ones for the child, async ones for the parent

pub mod batch;
pub mod frame;
pub mod legacy;
pub mod link;
pub mod measures;
pub mod outcome;
pub mod rare;
mod wire;

pub use batch::{Batch, BatchRef};
pub use frame::{Frame, Kind, MAX_BODY, Splitter};
pub use legacy::{HandedOver, TakeOver};
pub use link::{BlockingReader, BlockingWriter, Incoming, Outgoing};
pub use outcome::Outcomes;
pub use rare::{FaultForm, Hello, ModuleForm, Prepare, Rare, Ready, Refused};

use runtime_core::Fault;

/// Versions of the protocol. A major one is refused where it differs; of the minor ones, the lower one counts.
pub const VERSION: (u16, u16) = (2, 0);

/// Why a frame cannot be sent or understood. After any of them the stream is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The length of a body is above the limit: sent, it would be refused; received, it is damage.
    #[error("a {kind} frame has {length} bytes, the limit is {MAX_BODY}: make batches or payloads smaller")]
    TooLong {
        /// The kind's name or number.
        kind: String,
        /// What the body would have.
        length: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Cut,
    /// A body is shorter than what it should hold.
    #[error("a frame is shorter than its content")]
    Short,
    /// A body holds something that no version of the protocol writes.
    #[error("a frame is damaged: {0}")]
    Malformed(&'static str),
    /// Another frame was due.
    #[error("expected a {expected:?} frame, got {got:?}")]
    Unexpected {
        /// What was asked for.
        expected: Kind,
        /// What came.
        got: Kind,
    },
    /// The other side speaks another version.
    #[error(
        "the worker speaks protocol {theirs}, this process {ours}: the binary was replaced while it ran, restart it"
    )]
    Version {
        /// The version of the other side.
        theirs: String,
        /// Our own.
        ours: String,
    },
    /// A JSON body cannot be written or read.
    #[error("the content of a {0:?} frame is wrong")]
    Json(Kind, #[source] serde_json::Error),
    /// The socket failed.
    #[error("the socket to the other side failed")]
    Io(#[from] std::io::Error),
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        Self::internal("the conversation with a worker process broke").caused_by(error)
    }
}
