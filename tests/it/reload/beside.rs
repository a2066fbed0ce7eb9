//! What lies beside the code in its folder: the function's own files, data of any size, and what is counted as code.

use std::fs::{File, create_dir_all};
use std::time::Instant;

use super::*;
use crate::support::bed::bound;
use crate::support::tier::scale;

fn loader(folder: &Path, more: &str) -> String {
    format!("{{ use = \"dir\", path = \"{}\"{more} }}", folder.display())
}

/// Counts in a global as well, which begins anew with each version of the code; `before` runs first in each call.
fn globals(version: usize, before: &str) -> String {
    format!(
        "import os, socket, sqlite3\n\
         HERE = os.path.dirname(os.path.abspath(__file__))\n\
         born = 0\n\
         def put(name, text='x'):\n    \
             os.makedirs(os.path.dirname(os.path.join(HERE, name)), exist_ok=True)\n    \
             with open(os.path.join(HERE, name), 'a') as file:\n        file.write(text)\n\
         def handler(input, context):\n    \
             global born\n    \
             born += 1\n    \
             {before}\n    \
             context.env['calls'] = context.env.get('calls', 0) + 1\n    \
             return {{'v': {version}, 'calls': context.env['calls'], 'event': input, 'born': born}}\n"
    )
}

/// Writes at each call whatever functions, Python, tools and editors leave beside code.
const LEAVES: &str = "leave(input)";

const LEAVE: &str = r"
def leave(n):
    for name in ['calls.log', 'cache.json', 'run.pid', 'main.py~', '#main.py#', '.main.py.swp', '4913', 'model.pkl',
                 '__pycache__/main.cpython.pyc', '.git/index.py', '.mypy_cache/x.py', '.ipynb_checkpoints/main.py',
                 'node_modules/x/setup.py', 'new%d/data.csv' % n]:
        put(name)
    put('env/pyvenv.cfg')
    put('env/lib/x.py')
    put('state.tmp')
    os.replace(os.path.join(HERE, 'state.tmp'), os.path.join(HERE, 'state.json'))
    base = sqlite3.connect(os.path.join(HERE, 'own.db'))
    base.execute('pragma journal_mode=wal')
    base.execute('create table if not exists t (n)')
    base.execute('insert into t values (?)', (n,))
    base.commit()
    base.close()
    for name in ['own.sock', 'pipe']:
        if os.path.exists(os.path.join(HERE, name)):
            os.unlink(os.path.join(HERE, name))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(os.path.join(HERE, 'own.sock')))
    listening.close()
    os.mkfifo(os.path.join(HERE, 'pipe'))
";

#[test]
fn what_a_function_writes_beside_its_code_is_no_new_code() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("f");
    create_dir_all(folder.join("lib")).unwrap();
    let main = |version: usize| globals(version, LEAVES) + LEAVE;
    write(folder.join("main.py"), main(1)).unwrap();
    let mut paced = Paced::start(&loader(&folder, ""), "python");
    paced.wait_for("the fortieth call", |result| result["born"] == 40);
    assert_eq!((paced.reloads("ok"), paced.reloads("failed")), (0, 0), "{}", paced.vm.running.written());
    // code is still seen: a changed file, and one in a folder that was not there
    write(folder.join("main.py"), main(2)).unwrap();
    paced.wait_version(2);
    create_dir_all(folder.join("later/deep")).unwrap();
    write(folder.join("later/deep/version.py"), "VERSION = 3\n").unwrap();
    paced.wait_reloads("ok", 2);
    write(folder.join("later/deep/version.py"), "VERSION = 4\n").unwrap();
    paced.wait_reloads("ok", 3);
    paced.wait_for("further calls", |result| result["born"] == 20);
    assert_eq!(paced.reloads("ok"), 3);
    paced.stop().assert_whole();
}

#[test]
fn what_counts_as_code_can_be_widened() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("f");
    create_dir_all(folder.join("tables/deep")).unwrap();
    let read = "put('calls.log'); put('own.json')";
    write(folder.join("main.py"), globals(1, read)).unwrap();
    write(folder.join("tables/deep/limits.json"), "{}").unwrap();
    write(folder.join("model.onnx"), "1").unwrap();
    let mut paced = Paced::start(&loader(&folder, ", include = [\"tables\", \"*.onnx\"]"), "python");
    paced.wait_more(10);
    assert_eq!(paced.reloads("ok"), 0);
    write(folder.join("tables/deep/limits.json"), "{\"a\": 1}").unwrap();
    paced.wait_reloads("ok", 1);
    write(folder.join("model.onnx"), "2").unwrap();
    paced.wait_reloads("ok", 2);
    write(folder.join("tables/deep/limits.json"), "{\"a\": 1}").unwrap();
    paced.wait_more(20);
    assert_eq!(paced.reloads("ok"), 2, "the same bytes are no change");
    paced.stop().assert_whole();
}

#[test]
fn gibibytes_and_many_files_beside_the_code_hold_up_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("f");
    create_dir_all(folder.join("data")).unwrap();
    write(folder.join("main.py"), globals(1, "pass")).unwrap();
    File::create(folder.join("model.bin")).unwrap().set_len(8 << 30).unwrap();
    for n in 0..scale(100_000, 20_000) {
        File::create(folder.join(format!("data/{n}.csv"))).unwrap();
    }
    symlink("..", folder.join("data/up")).unwrap();
    let begun = Instant::now();
    let mut paced = Paced::start(&loader(&folder, ""), "python");
    let first = begun.elapsed();
    write(folder.join("main.py"), globals(2, "pass")).unwrap();
    let changed = Instant::now();
    paced.wait_version(2);
    let second = changed.elapsed();
    paced.stop().assert_whole();
    let bound = bound(Duration::from_secs(1)) + Duration::from_secs(1);
    assert!(first < bound && second < bound, "the first result took {first:?}, the next version {second:?}");
}

#[test]
fn a_pattern_that_cannot_be_used_is_named() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("gaugefn.toml");
    let table = "[functions.vm]\nsource = { use = \"host\" }\nexecutor = { use = \"python\" }\nsinks.stdout = {}\n\
                 loader = { use = \"dir\", path = \".\", include = [\"../*.json\"] }\n";
    write(&config, table).unwrap();
    let output =
        crate::support::gaugefn::Gaugefn::command().args(["check", "--config"]).args([&config]).output(PATIENCE);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = "functions.vm.loader.include: '../*.json' leads outside the folder; write a pattern relative to it, without '..'";
    assert!(output.stderr.contains(said), "{output:?}");
}
