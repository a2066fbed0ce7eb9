//! Private folders that must not outlive the process, also where it ends without dropping anything: user code may hold
//! the first thread for ever.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static LISTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder that [`remove_all`] removes while this lives. Dropping it leaves the folder to its owner.
#[derive(Debug)]
pub struct Listed(PathBuf);

/// Puts a folder on the list.
#[must_use]
pub fn list(folder: &Path) -> Listed {
    LISTED.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
    Listed(folder.to_owned())
}

/// Removes all listed folders. To be called right before the process ends.
pub fn remove_all() {
    for folder in LISTED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // nobody is left who could do anything about it
        let _ = std::fs::remove_dir_all(folder);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        LISTED.lock().unwrap_or_else(PoisonError::into_inner).retain(|folder| *folder != self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_goes_and_the_rest_stays() {
        let top = std::env::temp_dir().join(format!("gaugefn-scratch-{}", std::process::id()));
        let (kept, gone) = (top.join("kept"), top.join("gone"));
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::create_dir_all(gone.join("below")).unwrap();
        drop(list(&kept));
        let _listed = list(&gone);
        remove_all();
        assert!(kept.exists() && !gone.exists());
        std::fs::remove_dir_all(top).unwrap();
    }
}
