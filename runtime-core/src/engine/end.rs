//! How the run of a function ends.

use crate::contract::Fault;

/// Every way in which a function's run can end.
#[derive(Debug)]
pub enum End {
    /// It was asked to stop, and everything in flight is committed.
    Stopped,
    /// The source has nothing any more, and everything is committed.
    Exhausted,
    /// It was asked to stop, and something was still in flight when the time to drain was over.
    NotDrained,
    /// The error policy `stop`: this event failed.
    Policy {
        /// Its id.
        event: String,
    },
    /// Another process has the lease. The run begins again when this one has it.
    Fenced,
    /// A component is beyond repair.
    Fault(Fault),
}
