//! A mounted ConfigMap whose content changes while events arrive.

use std::fs::{read, remove_file, rename, write};
use std::thread::sleep;
use std::time::Instant;

use super::*;
use crate::support::tier::{scale, soak};

/// When each line of the file was there, as seen by the file system: looks at it every millisecond.
struct Arrivals {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Duration>>,
}

impl Arrivals {
    fn watch(path: PathBuf) -> Self {
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut size, mut last, mut gaps) = (0, None, Vec::new());
            while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                let now = path.metadata().map_or(0, |meta| meta.len());
                if now > size {
                    size = now;
                    let at = Instant::now();
                    gaps.extend(last.replace(at).map(|last| at - last));
                }
                sleep(Duration::from_millis(1));
            }
            gaps
        });
        Self { stop, thread }
    }

    /// The gaps between results, without the period, sorted.
    fn late(self) -> Vec<Duration> {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut late: Vec<_> =
            self.thread.join().unwrap().iter().map(|gap| gap.saturating_sub(Duration::from_millis(20))).collect();
        late.sort();
        late
    }
}

/// Swaps through all versions; every one has to be seen before the next comes.
fn swaps(name: &str, executor: &str, content: &dyn Fn(usize) -> Vec<u8>) {
    let count = scale(100, 8);
    let place = tempfile::tempdir().unwrap();
    let mut map = ConfigMap::mount(place.path().join("function"), &[(name, &content(0))]);
    let loader = if executor == "native" { "native" } else { "file" };
    let path = map.folder.join(name);
    let mut paced = Paced::start(&format!("{{ use = \"{loader}\", path = \"{}\" }}", path.display()), executor);
    let arrivals = Arrivals::watch(paced.vm.folder.path().join("results.jsonl"));
    for version in 1..=count {
        map.swap(&[(name, &content(version))]);
        paced.wait_version(version);
    }
    let late = arrivals.late();
    paced.wait_reloads("ok", count);
    assert_eq!(paced.reloads("failed"), 0);
    let paced = paced.stop();
    paced.assert_whole();
    let results = paced.results();
    let versions: Vec<_> = results.iter().map(|result| result["v"].as_u64().unwrap()).collect();
    assert!(versions.is_sorted(), "an old version answered again: {versions:?}");
    let p99 = late[late.len() * 99 / 100];
    #[allow(clippy::print_stderr, reason = "a figure that a run is made for")]
    {
        eprintln!(
            "{executor}: {} events, {count} swaps, late p99 {p99:?}, most {:?}",
            results.len(),
            late[late.len() - 1]
        );
    }
    let bound = if soak() { Duration::from_millis(20) } else { Duration::from_millis(100) };
    assert!(p99 <= bound, "a swap holds events up: {p99:?}");
}

#[test]
fn python_loses_nothing_in_swaps() {
    swaps("fn.py", "python", &|version| counting(version).into_bytes());
}

#[test]
fn native_loses_nothing_in_swaps() {
    let place = tempfile::tempdir().unwrap();
    swaps("fn.so", "native", &|version| read(library(place.path(), version, &[])).unwrap());
}

/// Each of them fails in another way; each is counted once, and the old version answers all the time.
fn bad_versions(name: &str, executor: &str, good: &[u8], better: &[u8], bad: &[Vec<u8>]) {
    let place = tempfile::tempdir().unwrap();
    let mut map = ConfigMap::mount(place.path().join("function"), &[(name, good)]);
    let loader = if executor == "native" { "native" } else { "file" };
    let path = map.folder.join(name);
    let mut paced = Paced::start(&format!("{{ use = \"{loader}\", path = \"{}\" }}", path.display()), executor);
    for (n, content) in bad.iter().enumerate() {
        map.swap(&[(name, content)]);
        paced.wait_reloads("failed", n + 1);
        paced.wait_more(2);
    }
    let (_, functions) = paced.vm.admin.get("/api/functions").unwrap();
    assert!(functions.contains("\"refused\":\""), "{functions}");
    paced.vm.wait_lines(&["is not taken, the old one goes on: "], bad.len());
    assert_eq!((paced.reloads("ok"), paced.vm.readiness().unwrap().0), (0, 200));
    assert!(paced.results().iter().all(|result| result["v"] == 1));
    map.swap(&[(name, better)]);
    paced.wait_version(2);
    paced.wait_reloads("ok", 1);
    assert_eq!(paced.reloads("failed"), bad.len());
    paced.stop().assert_whole();
}

#[test]
fn twenty_bad_python_versions_change_nothing() {
    let ways = [
        "def handler(input, context)\n    return 1\n",
        "import no_such_module\n",
        "raise RuntimeError('while importing')\n",
        "def other(input, context):\n    return 1\n",
        "handler = 7\n",
        "def handler():\n    return 1\n",
        "import sys\nsys.exit(3)\n",
        "raise KeyboardInterrupt\n",
        "",
        "\u{0}",
    ];
    let bad: Vec<_> = (0..20).map(|n| format!("{}# {n}\n", ways[n % ways.len()]).into_bytes()).collect();
    bad_versions("fn.py", "python", counting(1).as_bytes(), counting(2).as_bytes(), &bad);
}

#[test]
fn twenty_bad_libraries_change_nothing() {
    let place = tempfile::tempdir().unwrap();
    let [good, better] = [1, 2].map(|version| read(library(place.path(), version, &[])).unwrap());
    // cut off in many places
    let mut bad: Vec<_> = (1..18).map(|n| better[..better.len() * n / 18].to_vec()).collect();
    bad.extend([b"no library".to_vec(), Vec::new(), b"\x7fELF".to_vec()]);
    bad_versions("fn.so", "native", &good, &better, &bad);
}

#[test]
fn a_state_that_cannot_be_taken_along_keeps_the_old_library() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("fn.so");
    rename(library(place.path(), 1, &["-DFORGETFUL"]), &path).unwrap();
    let mut paced = Paced::start(&format!("{{ use = \"native\", path = \"{}\" }}", path.display()), "native");
    rename(library(place.path(), 2, &[]), &path).unwrap();
    paced.wait_reloads("failed", 1);
    paced.vm.wait_lines(&["its state would lose ", "set reload_state = \"reset\""], 1);
    paced.wait_more(3);
    paced.stop().assert_whole();

    rename(library(place.path(), 1, &["-DFORGETFUL"]), &path).unwrap();
    let loader = format!("{{ use = \"native\", path = \"{}\", reload_state = \"reset\" }}", path.display());
    let mut paced = Paced::start(&loader, "native");
    rename(library(place.path(), 2, &[]), &path).unwrap();
    paced.wait_version(2);
    let results = paced.stop().results();
    assert_eq!(results.iter().find(|result| result["v"] == 2).unwrap()["calls"], 1);
}

#[test]
fn the_same_bytes_again_are_no_new_version() {
    let place = tempfile::tempdir().unwrap();
    let code = counting(1);
    let path = place.path().join("fn.py");
    write(&path, &code).unwrap();
    let mut paced = Paced::start(&format!("{{ use = \"file\", path = \"{}\" }}", path.display()), "python");
    for n in 0..50 {
        match n % 3 {
            // touched, written again, and put in its place by a rename
            0 => drop(
                std::fs::File::options().append(true).open(&path).unwrap().set_modified(std::time::SystemTime::now()),
            ),
            1 => write(&path, &code).unwrap(),
            _ => {
                let other = place.path().join("other");
                write(&other, &code).unwrap();
                rename(&other, &path).unwrap();
            }
        }
        sleep(Duration::from_millis(20));
    }
    sleep(SOON);
    assert_eq!((paced.reloads("ok"), paced.reloads("failed")), (0, 0), "{}", paced.vm.running.written());
    // it would have been noticed
    write(&path, counting(2)).unwrap();
    paced.wait_version(2);
    paced.stop().assert_whole();
}

#[test]
fn a_relinked_library_of_the_same_bytes_is_no_new_version() {
    let place = tempfile::tempdir().unwrap();
    let built = library(place.path(), 1, &[]);
    let path = place.path().join("fn.so");
    std::fs::copy(&built, &path).unwrap();
    let mut paced = Paced::start(&format!("{{ use = \"native\", path = \"{}\" }}", path.display()), "native");
    for _ in 0..scale(50, 5) {
        // linked anew: other inode, same bytes
        let again = library(place.path(), 1, &[]);
        remove_file(&path).unwrap();
        std::fs::copy(&again, &path).unwrap();
    }
    sleep(SOON);
    assert_eq!(paced.reloads("ok"), 0, "{}", paced.vm.running.written());
    rename(library(place.path(), 2, &[]), &path).unwrap();
    paced.wait_version(2);
    paced.stop().assert_whole();
}

#[test]
fn a_file_mounted_by_itself_is_explained() {
    let place = tempfile::tempdir().unwrap();
    let (real, path) = (place.path().join("real.py"), place.path().join("fn.py"));
    write(&real, counting(1)).unwrap();
    write(&path, "").unwrap();
    let bed = Bed::bare("");
    let config = format!(
        "[functions.vm]\nsource = {{ use = \"host\" }}\nexecutor = {{ use = \"python\" }}\nsinks.stdout = {{}}\n\
         loader = {{ use = \"file\", path = \"{}\" }}\n",
        path.display()
    );
    // in a mount namespace of its own, where nothing but this process sees the mount
    let script = format!("mount --bind '{}' '{}' && exec \"$@\"", real.display(), path.display());
    let vm = bed.more(&config).under(&["unshare", "-rm", "sh", "-c", &script, "sh"]).start();
    vm.wait_lines(&["is mounted as a single file (subPath)", "mount the folder", &path.display().to_string()], 1);
}
