//! A worker that is killed takes everything along that it has started, however that has tried to leave.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use executors::worker::exit::Exit;
use executors::worker::reap::{Killed, adopt_orphans, kill_tree, sweep};
use executors::worker::spawn::Spawned;

use super::child::{alive, eventually, number, program};

/// Each line starts a process in another way; its number goes into the file of that name.
const ESCAPES: &str = r#"
import os, subprocess, sys, time
folder = sys.argv[1]

def note(name, pid):
    path = os.path.join(folder, name)
    open(path + ".new", "w").write(str(pid))
    os.rename(path + ".new", path)

def daemon(name):
    # twice forked, a session of its own, its parent gone
    first = os.fork()
    if first == 0:
        os.setsid()
        if os.fork() == 0:
            note(name, os.getpid())
            os.execlp("sleep", "sleep", "999")
        os._exit(0)
    os.waitpid(first, 0)

note("plain", subprocess.Popen(["sleep", "999"]).pid)
note("session", subprocess.Popen(["sleep", "999"], start_new_session=True).pid)
note("bare", subprocess.Popen(["sleep", "999"], start_new_session=True, env={}).pid)
deep = ["env", "-i", "/bin/sh", "-c", "/bin/sleep 999 & echo $!; wait"]
note("deep", int(subprocess.Popen(deep, start_new_session=True, stdout=subprocess.PIPE).stdout.readline()))
daemon("daemon")
# its parent is a process that has left the group
note("nested", int(subprocess.check_output(["sh", "-c", "setsid sh -c 'echo $$; exec >/dev/null; sleep 999'" + " & sleep 0.2"])))
note("worker", os.getpid())
while True:
    time.sleep(1)
"#;

const NAMES: [&str; 7] = ["plain", "session", "bare", "deep", "daemon", "nested", "worker"];

async fn numbers(folder: &Path) -> Vec<i32> {
    let mut numbers = Vec::new();
    for name in NAMES {
        numbers.push(number(&folder.join(name)).await);
    }
    numbers
}

fn zombies_of_this_process() -> Vec<String> {
    let me = std::process::id().to_string();
    let output = Command::new("ps").args(["--ppid", &me, "-o", "pid=,stat=,comm="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains(" Z")).map(str::to_owned).collect()
}

async fn finish(spawned: Spawned) -> Exit {
    spawned.process.watch().ended().await.unwrap();
    spawned.process.reap().unwrap()
}

#[tokio::test]
async fn what_a_worker_left_behind_when_it_crashed_goes_too() {
    adopt_orphans().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spawned = program("python3", &["-c", ESCAPES, folder.path().to_str().unwrap()]).spawn().unwrap();
    let processes = numbers(folder.path()).await;
    // who belongs to it is seen while it lives
    sweep();
    // as a crash does it: the worker alone
    spawned.process.watch().signal(6).unwrap();
    spawned.process.watch().ended().await.unwrap();
    let killed = kill_tree(spawned.process.root());
    // also the one without the variable, whose parent has gone
    let left: Vec<_> = NAMES.iter().zip(&processes).filter(|(_, pid)| alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?}: {killed:?}");
    finish(spawned).await;
    assert_eq!(zombies_of_this_process(), Vec::<String>::new());
}

#[tokio::test]
async fn a_tree_that_is_gone_costs_nothing_and_others_are_spared() {
    let first = program("sh", &["-c", "exit 3"]).spawn().unwrap();
    let second = program("sleep", &["999"]).spawn().unwrap();
    first.process.watch().ended().await.unwrap();
    assert_eq!(kill_tree(first.process.root()), Killed::default());
    assert_eq!(finish(first).await, Exit::Code(3));
    assert!(alive(second.process.pid()), "another worker is left alone");
    kill_tree(second.process.root());
    assert_eq!(finish(second).await, Exit::Signal { number: 9, core: false });
}

#[tokio::test]
async fn orphans_that_end_by_themselves_do_not_stay_as_zombies() {
    adopt_orphans().unwrap();
    // one in the worker's group, one in a session of its own; both lose their parent and end
    let script = "(sleep 0.1 &) ; (setsid sleep 0.3 &) ; echo started; exec sleep 999";
    let spawned = program("sh", &["-c", script]).spawn().unwrap();
    let mut theirs = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap();
    let mut reaped = 0;
    eventually(Duration::from_secs(10), "two orphans", || {
        reaped += sweep();
        reaped == 2
    })
    .await;
    assert!(alive(spawned.process.pid()));
    assert_eq!(theirs.wait().unwrap().code(), Some(5), "others keep the statuses of their children");
    assert_eq!(zombies_of_this_process(), Vec::<String>::new());
    kill_tree(spawned.process.root());
    finish(spawned).await;
}

#[tokio::test]
async fn a_worker_whose_descendants_go_on_forking_is_ended() {
    adopt_orphans().unwrap();
    // each generation leaves the group and the tree. One that forked at once would be ahead of whoever looks for it
    let script = "import os, time\n\
        end = time.time() + 20\n\
        while time.time() < end:\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(0.03)\n    else:\n        \
        time.sleep(0.005)\n        os._exit(0)";
    let spawned = program("python3", &["-c", script]).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let killed = kill_tree(spawned.process.root());
    assert!(killed.survivors.is_empty(), "{killed:?}");
    let id = spawned.process.id().to_string();
    finish(spawned).await;
    let marked = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let environ = std::fs::read(entry.ok()?.path().join("environ")).ok()?;
        String::from_utf8_lossy(&environ).contains(&id).then_some(())
    });
    assert_eq!(marked.count(), 0);
}

mod timing {
    use super::*;

    #[tokio::test]
    async fn nothing_survives_its_worker() {
        adopt_orphans().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let spawned = program("python3", &["-c", ESCAPES, folder.path().to_str().unwrap()]).spawn().unwrap();
        let processes = numbers(folder.path()).await;
        assert!(processes.iter().all(|pid| alive(*pid)), "{processes:?}");
        let mut stranger = Command::new("sleep").arg("999").spawn().unwrap();

        let start = Instant::now();
        let killed = kill_tree(spawned.process.root());
        let took = start.elapsed();
        assert!(!processes.iter().any(|pid| alive(*pid)), "{processes:?}: {killed:?}");
        assert!(killed.survivors.is_empty(), "{killed:?}");
        assert!(killed.escaped >= 4, "{killed:?}");
        // ten times what it takes
        assert!(took < Duration::from_millis(100), "{took:?}");
        assert_eq!(finish(spawned).await, Exit::Signal { number: 9, core: false });
        assert_eq!(zombies_of_this_process(), Vec::<String>::new());
        assert!(alive(stranger.id().cast_signed()), "another child of this process is left alone");
        stranger.kill().unwrap();
        assert!(!stranger.wait().unwrap().success());
    }
}
