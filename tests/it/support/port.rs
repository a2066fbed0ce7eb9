//! Loopback ports for servers that cannot be asked which port they got.
//!
//! Binding port 0 and closing again leaves the port to whoever is next, and tests run in parallel
//! processes. So a port is held by a lock on a file until the test that uses it ends, and it is taken from
//! below the range that the kernel deals to outgoing connections.

use std::fs::{File, create_dir_all};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

/// A loopback port that no other test uses while this value lives.
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// # Panics
    /// When every port of the range is taken.
    pub(crate) fn reserve() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
        create_dir_all(&folder).unwrap();
        // spread by process, so that parallel tests seldom try the same ones
        let start = std::process::id().wrapping_mul(37) % COUNT;
        (0..COUNT)
            .map(|step| u16::try_from(FIRST + (start + step) % COUNT).unwrap())
            .find_map(|number| {
                let lock = File::create(folder.join(number.to_string())).unwrap();
                lock.try_lock().ok()?;
                // somebody outside the tests may listen there
                TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
                Some(Self { number, _lock: lock })
            })
            .expect("a free loopback port between 20000 and 29999")
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
