//! What a new version of a Python function finds of the old one, for every loader.

use std::fs::create_dir_all;
use std::io::Write;

use super::*;
use crate::support::gaugefn::Gaugefn;

fn file_loader(path: &Path) -> String {
    format!("{{ use = \"file\", path = \"{}\" }}", path.display())
}

#[test]
fn the_state_goes_on_and_the_module_begins_anew() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("fn.py");
    let code = |version: usize| {
        format!(
            "import threading\n\
             born = []\n\
             class Held:\n    version = {version}\n\
             def handler(input, context):\n    \
                 born.append(1)\n    \
                 context.env['calls'] = context.env.get('calls', 0) + 1\n    \
                 context.env.setdefault('lock', threading.Lock())\n    \
                 held = context.env.setdefault('held', Held())\n    \
                 return {{'v': {version}, 'calls': context.env['calls'], 'event': input, 'born': len(born),\n             \
                         'held': held.version, 'own': isinstance(held, Held), 'mtime': context.function_getmtime}}\n"
        )
    };
    let stamp = |second: u64| std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
    let put = |version: usize| {
        let temporary = place.path().join("tmp");
        write(&temporary, code(version)).unwrap();
        std::fs::File::options().append(true).open(&temporary).unwrap().set_modified(stamp(version as u64)).unwrap();
        rename(&temporary, &path).unwrap();
    };
    put(1);
    let mut paced = Paced::start_with(&file_loader(&path), "python", "isolation = \"inline\"");
    put(2);
    paced.wait_version(2);
    paced.wait_more(3);
    let paced = paced.stop();
    paced.assert_whole();
    let results = paced.results();
    let (old, new): (Vec<_>, Vec<_>) = results.iter().partition(|result| result["v"] == 1);
    assert_eq!(new[0]["born"], 1, "module globals begin anew");
    assert!(old.iter().all(|result| result["own"] == true));
    // a live object keeps the class that it was made of
    assert!(new.iter().all(|result| result["held"] == 1 && result["own"] == false));
    assert_ne!(old[0]["mtime"], new[0]["mtime"]);
}

#[test]
fn a_state_can_be_reset() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("fn.py");
    write(&path, counting(1)).unwrap();
    let loader = format!("{{ use = \"file\", path = \"{}\", reload_state = \"reset\" }}", path.display());
    let mut paced = Paced::start(&loader, "python");
    write(&path, counting(2)).unwrap();
    paced.wait_version(2);
    let paced = paced.stop();
    let results = paced.results();
    let first = results.iter().find(|result| result["v"] == 2).unwrap();
    assert_eq!(first["calls"], 1);
}

#[test]
fn code_can_be_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("fn.py");
    write(&path, counting(1)).unwrap();
    let loader = format!("{{ use = \"file\", path = \"{}\", reload = false }}", path.display());
    let mut paced = Paced::start(&loader, "python");
    write(&path, counting(2)).unwrap();
    std::thread::sleep(SOON);
    paced.wait_more(5);
    assert!(paced.results().iter().all(|result| result["v"] == 1));
    paced.stop().assert_whole();
}

/// `main.py` takes its version from a module beside it, and keeps what another one holds.
fn parts(version: usize) -> [(&'static str, String); 3] {
    let main = "from lib import version\n\n\
        def handler(input, context):\n    \
            import late\n    \
            context.env['calls'] = context.env.get('calls', 0) + 1\n    \
            return {'v': version.VERSION, 'calls': context.env['calls'], 'event': input, 'late': late.VERSION}\n";
    [
        ("main.py", main.to_owned()),
        ("lib/version.py", format!("VERSION = {version}\n")),
        ("late.py", format!("VERSION = {version}\n")),
    ]
}

#[test]
fn a_folders_modules_change_together() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("function");
    create_dir_all(root.join("lib")).unwrap();
    let put = |version| parts(version).iter().for_each(|(name, text)| write(root.join(name), text).unwrap());
    put(1);
    let mut paced = Paced::start(&format!("{{ use = \"dir\", path = \"{}\" }}", root.display()), "python");
    for version in 2..6 {
        // equal sizes within one second: byte code of the old version must not be taken for it
        put(version);
        paced.wait_for("both modules of the version", |result| result["v"] == version && result["late"] == version);
    }
    paced.stop().assert_whole();
}

fn zipped(path: &Path, version: usize) {
    let temporary = path.with_extension("tmp");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&temporary).unwrap());
    for (name, text) in parts(version) {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    rename(temporary, path).unwrap();
}

#[test]
fn a_zip_is_replaced_and_the_old_folder_goes() {
    let place = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = place.path().join("fn.zip");
    zipped(&path, 1);
    let bed = Bed::bare("").env("TMPDIR", scratch.path().to_str().unwrap());
    let folder = bed.folder.path().to_path_buf();
    write(folder.join("events.jsonl"), (0..10_000).map(|n| format!("{n}\n")).collect::<String>()).unwrap();
    let config = format!(
        "[functions.vm]\nloader = {{ use = \"zip\", path = \"{}\" }}\n\
         source = {{ use = \"file\", path = \"events.jsonl\", period = \"20ms\" }}\n\
         sinks.result = {{ use = \"file\", path = \"results.jsonl\" }}\n",
        path.display()
    );
    let mut paced = Paced { vm: bed.more(&config).start() };
    paced.wait_version(1);
    let folders = || std::fs::read_dir(scratch.path()).unwrap().count();
    let before = folders();
    for version in 2..5 {
        zipped(&path, version);
        paced.wait_for("both modules of the version", |result| result["v"] == version && result["late"] == version);
    }
    let gone = eventually(PATIENCE, || (folders() == before).then_some(()));
    assert!(gone.is_some(), "{} folders are left of {before}", folders());
    paced.stop().assert_whole();
}

#[test]
fn modules_from_elsewhere_stay_as_they_are() {
    let place = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (place.path().join("f/fn.py"), place.path().join("elsewhere"));
    create_dir_all(path.parent().unwrap()).unwrap();
    create_dir_all(&elsewhere).unwrap();
    write(elsewhere.join("shared.py"), "count = 0\n").unwrap();
    let code = |version: usize| {
        format!(
            "import shared\nshared.count += 1\nimported = shared.count\n{}",
            counting(version).replace("'event'", "'imported': imported, 'event'")
        )
    };
    write(&path, code(1)).unwrap();
    let bed = Bed::bare("");
    let folder = bed.folder.path().to_path_buf();
    write(folder.join("events.jsonl"), (0..10_000).map(|n| format!("{n}\n")).collect::<String>()).unwrap();
    let config = format!(
        "[functions.vm]\nisolation = \"inline\"\nloader = {}\nexecutor = {{ use = \"python\", path = [\"{}\"] }}\n\
         source = {{ use = \"file\", path = \"events.jsonl\", period = \"20ms\" }}\n\
         sinks.result = {{ use = \"file\", path = \"results.jsonl\" }}\n",
        file_loader(&path),
        elsewhere.display()
    );
    let mut paced = Paced { vm: bed.more(&config).start() };
    paced.wait_version(1);
    write(&path, code(2)).unwrap();
    paced.wait_version(2);
    let paced = paced.stop();
    assert_eq!(paced.results().last().unwrap()["imported"], 2);
    paced.assert_whole();
}

#[test]
fn a_c_extension_in_the_folder_needs_a_new_worker() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let library = crate::deployment::extension(root);
    assert!(library.exists());
    let code = |version: usize| format!("import fast\n{}", counting(version));
    write(root.join("main.py"), code(1)).unwrap();
    let loader = format!("{{ use = \"dir\", path = \"{}\" }}", root.display());
    let mut paced = Paced::start_with(&loader, "python", "isolation = \"inline\"");
    write(root.join("main.py"), code(2)).unwrap();
    paced.wait_reloads("failed", 1);
    paced.vm.wait_lines(&["module 'fast' is a C extension in the function's folder", "needs a new worker"], 1);
    paced.wait_more(3);
    paced.stop().assert_whole();
}

#[test]
fn in_a_worker_a_c_extension_is_no_obstacle_and_a_lock_is_one() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    crate::deployment::extension(root);
    let code = |version: usize, more: &str| format!("import fast, threading\n{more}{}", counting(version));
    write(root.join("main.py"), code(1, "")).unwrap();
    let loader = format!("{{ use = \"dir\", path = \"{}\" }}", root.display());
    let mut paced = Paced::start(&loader, "python");
    let locked = counting(2).replace("    return", "    context.env['lock'] = threading.Lock()\n    return");
    write(root.join("main.py"), format!("import fast, threading\n{locked}")).unwrap();
    paced.wait_version(2);
    // what cannot be carried keeps the old version
    write(root.join("main.py"), code(3, "")).unwrap();
    paced.wait_reloads("failed", 1);
    paced.vm.wait_lines(&["its state would lose 'lock' (a _thread.lock); set reload_state = \"reset\""], 1);
    paced.wait_more(3);
    let paced = paced.stop();
    assert_eq!(paced.results().last().unwrap()["v"], 2);
    paced.assert_whole();
}

#[test]
fn dev_takes_what_was_saved() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("fn.py");
    let code = |version| format!("def handler(input, context):\n    return {{'v': {version}}}\n");
    write(&path, code(1)).unwrap();
    let mut running = Gaugefn::command().args(["dev"]).args([&path]).args(["--every", "100ms"]).spawn();
    running.wait_for_log("{\"v\": 1}", PATIENCE);
    write(&path, code(2)).unwrap();
    running.wait_for_log("{\"v\": 2}", PATIENCE);
    write(&path, "def handler(input, context)\n").unwrap();
    running.wait_for_log("is not taken, the old one goes on: ", PATIENCE);
    write(&path, code(3)).unwrap();
    running.wait_for_log("{\"v\": 3}", PATIENCE);
}
