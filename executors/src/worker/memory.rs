//! Parent side: how much memory a worker holds.

use std::fs;
use std::io;

use rustix::param::page_size;

use super::reap::children;

/// The resident memory of a process and of all its living descendants, in bytes. Pages that several of them share
/// count for each: a pool of forked processes seems larger than it is.
///
/// # Errors
/// There is no such process.
pub fn resident(pid: i32) -> io::Result<u64> {
    let mut sum = resident_alone(pid)?;
    let mut next = children(pid);
    // a number is given anew only after thousands of others, so nobody is met twice
    while let Some(child) = next.pop() {
        // one that goes while it is looked at holds nothing
        sum += resident_alone(child).unwrap_or(0);
        next.extend(children(child));
    }
    Ok(sum)
}

/// The resident memory of a process without its children, in bytes; none for a zombie.
///
/// # Errors
/// There is no such process.
pub fn resident_alone(pid: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other(format!("/proc/{pid}/statm is not as expected: '{text}'")))?;
    Ok(pages * page_size() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn what_a_child_of_the_child_takes_is_counted() {
        let script = "import os, sys\n\
            read, write = os.pipe()\n\
            if os.fork() == 0:\n    data = b'x' * (64 << 20)\n    os.write(write, b'.')\n    sys.stdin.read()\n    os._exit(0)\n\
            os.read(read, 1)\n\
            print('ready', flush=True)\n\
            os.wait()";
        let mut child =
            Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = child.id().cast_signed();
        let (alone, tree) = (resident_alone(pid).unwrap(), resident(pid).unwrap());
        assert!(alone > 1 << 20 && alone < 64 << 20, "{alone}");
        assert!(tree > (64 << 20) + alone && tree < 200 << 20, "{tree}");
        child.stdin.take().unwrap().flush().unwrap();
        assert!(child.wait().unwrap().success());
        let error = resident(pid).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
