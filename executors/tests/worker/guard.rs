//! A parent that is killed takes its workers along.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::child::{alive, as_child, eventually, number};

mod timing {
    use super::*;

    #[tokio::test]
    async fn workers_and_what_they_started_die_with_the_parent() {
        let folder = tempfile::tempdir().unwrap();
        let start = as_child(&format!("parent {}", folder.path().display()));
        let mut command = Command::new("/proc/self/exe");
        command.args(&start.args).envs(start.env).stdin(Stdio::null()).stdout(Stdio::null());
        let mut parent = command.spawn().unwrap();
        let mut processes = Vec::new();
        for name in ["a", "b"] {
            processes.push(number(&folder.path().join(format!("{name}.worker"))).await);
            // it is written once all signals are blocked
            processes.push(number(&folder.path().join(name)).await);
        }
        assert!(processes.iter().all(|pid| alive(*pid)), "{processes:?}");
        parent.kill().unwrap();
        parent.wait().unwrap();
        eventually(Duration::from_secs(1), "the end of all", || !processes.iter().any(|pid| alive(*pid))).await;
    }
}
