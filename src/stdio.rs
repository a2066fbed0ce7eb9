//! Keeps the process's real standard output for results, before anything else can write to it.
//!
//! User code, C libraries and subprocesses write to descriptor 1 as they like; from here on that is standard error.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::io::fcntl_dupfd_cloexec;

/// Takes a private copy of descriptor 1 and points 1 at 2. To be called before any thread starts.
///
/// # Errors
/// The process has no descriptors left.
pub(crate) fn claim_stdout() -> io::Result<Arc<File>> {
    let stdout = match fcntl_dupfd_cloexec(io::stdout(), 3) {
        Ok(copy) => File::from(copy),
        // started without a standard output
        Err(rustix::io::Errno::BADF) => File::options().write(true).open("/dev/null")?,
        Err(error) => return Err(error.into()),
    };
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(Arc::new(stdout))
}
