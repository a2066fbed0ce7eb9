//! Wrong configurations, each with the whole of what is said of it.
//!
//! The snapshots in `tests/it/snapshots` are meant to be read: does each message name the thing, its value and the
//! remedy? After a change, `INSTA_UPDATE=always cargo nextest run --test it wrong_config::` writes them anew.

mod cases;
mod together;

use crate::support::gaugefn::{Gaugefn, Output};
use crate::support::wait::eventually;
use std::fmt::Write;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

/// Far above what a refusal takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// In the place of every secret, so that none can pass unseen.
const SECRET: &str = "hunter2";

/// Wrong configuration, and a named file that is missing.
const WRONG: i32 = 78;
const MISSING: i32 = 66;

/// One wrong configuration.
#[derive(Clone, Copy)]
struct Case {
    /// What is wrong with it.
    what: &'static str,
    /// Name and text of the config file; `PORT` stands for that of the server.
    file: Option<(&'static str, &'static str)>,
    /// The variables, as lines of `NAME=value`.
    variables: &'static str,
    /// The exit code.
    exit: i32,
}

/// A wrong TOML file.
const fn toml(what: &'static str, text: &'static str) -> Case {
    file(what, "gaugefn.toml", text)
}

const fn file(what: &'static str, name: &'static str, text: &'static str) -> Case {
    Case { what, file: Some((name, text)), variables: "", exit: WRONG }
}

const fn variables(what: &'static str, variables: &'static str) -> Case {
    Case { what, file: None, variables, exit: WRONG }
}

impl Case {
    const fn with(self, variables: &'static str) -> Self {
        Self { variables, ..self }
    }

    const fn exits(self, exit: i32) -> Self {
        Self { exit, ..self }
    }

    /// What is said, by `check` and by `run` alike, without a word to the server.
    fn said(&self) -> String {
        let server = Server::listen();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("folder.toml")).unwrap();
        if let Some((name, text)) = self.file {
            std::fs::write(folder.path().join(name), text.replace("PORT", &server.port().to_string())).unwrap();
        }
        let said = ["check", "run"].map(|command| {
            let mut gaugefn = Gaugefn::command().args([command]).current_dir(folder.path());
            if let Some((name, _)) = self.file {
                gaugefn = gaugefn.args(["--config", name]);
            }
            // a file says where the server is
            let says_where =
                |text: &str| ["[redis]", "redis = ", "redis:\n", "\"redis\""].iter().any(|part| text.contains(part));
            if !self.file.is_some_and(|(_, text)| says_where(text)) {
                gaugefn = gaugefn.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", server.port().to_string());
            }
            for (name, value) in self.variables.lines().filter_map(|line| line.trim().split_once('=')) {
                gaugefn = gaugefn.env(name, value.replace("PORT", &server.port().to_string()));
            }
            let output = gaugefn.output(PATIENCE);
            assert_eq!(output.status.code(), Some(self.exit), "{}: {output:?}", self.what);
            assert_eq!(output.stdout, "", "{}", self.what);
            assert!(!output.stderr.contains(SECRET), "{}: {}", self.what, output.stderr);
            output.stderr
        });
        assert_eq!(said[0], said[1], "{}: check and run say different things", self.what);
        server.assert_unheard(self.what);
        let [said, _] = said;
        said.replace(&server.port().to_string(), "PORT").replace(&folder.path().display().to_string(), "FOLDER")
    }
}

/// Where every configuration says that Redis is; nobody may come.
struct Server(TcpListener);

impl Server {
    fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn assert_unheard(&self, what: &str) {
        let came = self.0.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "{what}: a connection was opened");
    }
}

/// Otherwise that nobody came would mean nothing.
#[test]
fn a_sound_configuration_opens_a_connection() {
    let server = Server::listen();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gaugefn.toml"), cases::CONTROL).unwrap();
    let _running = Gaugefn::command()
        .args(["run", "--config", "gaugefn.toml"])
        .current_dir(folder.path())
        .env("REDIS_HOST", "127.0.0.1")
        .env("REDIS_PORT", server.port().to_string())
        .spawn();
    assert!(eventually(PATIENCE, || server.0.accept().ok()).is_some());
}

/// All cases as one text: what was written, and what was said of it.
fn page(cases: &[Case]) -> String {
    let mut page = String::new();
    for case in cases {
        writeln!(page, "## {}\n", case.what).unwrap();
        if let Some((name, text)) = case.file {
            writeln!(page, "{name}:\n{}\n", indented(text)).unwrap();
        }
        if !case.variables.is_empty() {
            writeln!(page, "variables:\n{}\n", indented(case.variables)).unwrap();
        }
        writeln!(page, "exit {}:\n{}\n", case.exit, indented(&case.said())).unwrap();
    }
    page
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("    {}", line.trim_start_matches("        "))).collect();
    lines.join("\n").trim_end().to_owned()
}

/// One test for each group.
macro_rules! groups {
    ($($name:ident $cases:ident,)*) => {
        $(#[test] fn $name() { insta::assert_snapshot!(stringify!($name), page(cases::$cases)); })*

        #[test]
        fn there_are_enough_of_them() {
            let groups: &[&[Case]] = &[$(cases::$cases),*];
            let count: usize = groups.iter().map(|cases| cases.len()).sum();
            assert!(count >= 40, "{count}");
        }
    };
}

groups! {
    files FILES,
    tables TABLES,
    options OPTIONS,
    connections CONNECTIONS,
    default_deployment DEFAULT_DEPLOYMENT,
    overriding_variables OVERRIDING,
    later_versions LATER,
    the_same_thing_twice TOGETHER,
}

/// The sentence that the interface fixes.
#[test]
fn the_example_of_the_interface() {
    let case = toml(
        "",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'metrics'\nperod = '5s'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\n",
    );
    assert_eq!(case.said(), "functions.vm.source.perod: unknown key, did you mean 'period'? (from gaugefn.toml)\n");
}

#[test]
fn all_mistakes_at_once() {
    insta::assert_snapshot!(page(&[cases::EVERYTHING]));
}

#[test]
fn wrong_usage() {
    let mut page = String::new();
    for (line, exit) in [
        ("", 64),
        ("rum", 64),
        ("run --conifg gaugefn.toml", 64),
        ("run --config", 64),
        ("check gaugefn.toml", 64),
        ("components --format yaml", 64),
        ("dev vm.py --every soon", 64),
        ("invoke", 64),
        ("replay a.py", 64),
        ("init here", 64),
        ("init here --lang go", 64),
        ("dlq", 64),
        ("dlq ls", 64),
        ("dlq ls vm", WRONG),
        ("dlq show vm", WRONG),
        ("dlq replay vm", WRONG),
        ("dlq purge vm 1-0 --all", 64),
        ("worker", 64),
    ] {
        let output = Gaugefn::command().args(line.split_whitespace()).output(PATIENCE);
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(exit), ""), "{line}: {output:?}");
        // without arguments the help is what is said
        let said = if ["", "dlq"].contains(&line) { "(the help)" } else { &output.stderr };
        writeln!(page, "$ gaugefn {line}\nexit {exit}\n{}\n", indented(said)).unwrap();
    }
    insta::assert_snapshot!(page);
}

/// In a folder with this config file and the password file `secret`.
fn sound(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let server = Server::listen();
    let folder = tempfile::tempdir().unwrap();
    let text = cases::SOUND.replace("PORT", &server.port().to_string());
    std::fs::write(folder.path().join("gaugefn.toml"), text).unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let gaugefn = Gaugefn::command().args(args).args(["--config", "gaugefn.toml"]).current_dir(folder.path());
    let mut output = variables.iter().fold(gaugefn, |gaugefn, (name, value)| gaugefn.env(name, value)).output(PATIENCE);
    server.assert_unheard("a sound configuration");
    for text in [&mut output.stdout, &mut output.stderr] {
        assert!(!text.contains(SECRET), "{text}");
        *text = text.replace(&server.port().to_string(), "PORT");
    }
    output
}

#[test]
fn a_sound_configuration() {
    let output = sound(&["check"], &[]);
    assert_eq!(
        (output.status.code(), output.stdout.as_str(), output.stderr.as_str()),
        (Some(0), "the configuration is sound: functions 'metrics', 'entries', 'vm'\n", "")
    );
    let output = sound(&["check"], &[("REDIS_OUTPUT_KEY", "result"), ("SLEEP_TIME", "1")]);
    assert_eq!((output.status.code(), output.stdout.contains("is sound")), (Some(0), true));
    assert_eq!(
        output.stderr,
        "warning: REDIS_OUTPUT_KEY is ignored: the functions are declared by gaugefn.toml\n\
         warning: SLEEP_TIME is ignored: the functions are declared by gaugefn.toml\n"
    );
    let alone = Gaugefn::command().args(["check"]).env("REDIS_OUTPUT_KEY", "result").output(PATIENCE);
    assert_eq!(
        (alone.status.code(), alone.stdout.as_str(), alone.stderr.as_str()),
        (Some(0), "the configuration is sound: function 'default'\n", "")
    );
}

/// The replaced image allowed it, and somebody may live on it.
#[test]
fn a_key_that_is_read_and_written_is_a_warning() {
    let variables = [("REDIS_INPUT_KEY", "m"), ("REDIS_OUTPUT_KEY", "m")];
    let gaugefn = Gaugefn::command().args(["check"]);
    let output = variables.iter().fold(gaugefn, |gaugefn, (name, value)| gaugefn.env(name, value)).output(PATIENCE);
    assert_eq!(
        (output.status.code(), output.stdout.as_str(), output.stderr.as_str()),
        (
            Some(0),
            "the configuration is sound: function 'default'\n",
            "warning: functions.default.sinks.result.key: key 'm' is what functions.default.source reads: what is \
             written there comes back as input; name another key, unless that is meant (from REDIS_OUTPUT_KEY)\n"
        )
    );
}

/// Pages that follow each other, until a result is empty.
#[test]
fn a_stream_that_is_read_and_written_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[functions.vm.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\n\
                  [functions.vm.sinks.redis_stream]\nstream = 's'\n";
    std::fs::write(folder.path().join("gaugefn.toml"), config).unwrap();
    let gaugefn = Gaugefn::command().args(["check", "--config", "gaugefn.toml"]).current_dir(folder.path());
    let output = gaugefn.output(PATIENCE);
    assert_eq!(
        (output.status.code(), output.stdout.as_str(), output.stderr.as_str()),
        (
            Some(0),
            "the configuration is sound: function 'vm'\n",
            "warning: functions.vm.sinks.redis_stream.stream: stream 's' is what functions.vm.source reads: what is \
             written there comes back as input, until a result is empty; name another stream, unless that is meant \
             (from gaugefn.toml)\n"
        )
    );
}

#[test]
fn the_effective_configuration_with_origins() {
    let variables = [
        ("REDIS_USERNAME", "me"),
        ("GAUGEFN__LOG__FORMAT", "json"),
        ("GAUGEFN__FUNCTIONS__VM__SOURCE__PERIOD", "0.5"),
        ("GAUGEFN__FUNCTIONS__VM__ERRORS__RETRIES", "2"),
        ("GAUGEFN__FUNCTIONS__VM__EXECUTOR__PATH", "/opt/lib, /opt/more"),
        ("GAUGEFN__FUNCTIONS__METRICS__SINKS__OTHER__URL", "unix:/run/redis.sock?user=me&pass=hunter2"),
    ];
    let explained = sound(&["config", "--explain"], &variables);
    assert_eq!((explained.status.code(), explained.stderr.as_str()), (Some(0), ""), "{explained:?}");
    insta::assert_snapshot!(explained.stdout);

    // without the origins the same lines, and a file that means the same
    let plain = sound(&["config"], &variables).stdout;
    let without: Vec<_> =
        explained.stdout.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim_end()).collect();
    assert_eq!(plain.lines().collect::<Vec<_>>(), without);
    let folder = tempfile::tempdir().unwrap();
    let written = plain.replace("********", "x").replace("PORT", "6379");
    std::fs::write(folder.path().join("again.toml"), &written).unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let again = Gaugefn::command().args(["config", "--config", "again.toml"]).current_dir(folder.path());
    let again = again.output(PATIENCE);
    assert_eq!(again.stdout.replace("********", "x"), written, "{again:?}");
}

#[test]
fn the_default_deployment_with_origins() {
    let shown = Gaugefn::command()
        .args(["config", "--explain"])
        .env("REDIS_HOST", "cache")
        .env("REDIS_PORT", "tcp://10.0.0.1:6379")
        .env("REDIS_PASSWORD", SECRET)
        .env("RUNTIME_POLL_INTERVAL", "2.5")
        .env("REDIS_OUTPUT_KEY", "2021-proj3-output")
        .env("FUNCTION_HANDLER", "process")
        .output(PATIENCE);
    assert_eq!((shown.status.code(), shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    assert!(!shown.stdout.contains(SECRET));
    insta::assert_snapshot!(shown.stdout);
}
