//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use runtime_core::options::Span;

/// A serverless function runtime: your function is called with each new event, and its result is stored.
#[derive(Debug, Parser)]
#[command(name = "gaugefn", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "\
Try it without any set-up:
  gaugefn dev examples/vm_metrics.py       live metrics of this machine
  gaugefn invoke examples/vm_metrics.py    one built-in sample event
Run it against Redis:
  REDIS_HOST=localhost REDIS_OUTPUT_KEY=result USER_MODULE_PATH=fn.py gaugefn run")]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the configured functions until SIGTERM or SIGINT
    #[command(after_help = "\
Without a config file the environment alone describes one function: Python on Redis.
  REDIS_HOST            the server (localhost)
  REDIS_PORT            its port (6379)
  REDIS_INPUT_KEY       the key that is watched (metrics)
  REDIS_OUTPUT_KEY      the key that gets the result (none: to the log)
  REDIS_MONITOR_PERIOD  seconds between two looks (5)
  USER_MODULE_PATH      the function's file (/opt/usermodule.py)
  USER_HANDLER_NAME     the entry function in it (handler)
  ZIP_TARGET_PATH       a zip instead of the file

Examples:
  REDIS_OUTPUT_KEY=result USER_MODULE_PATH=fn.py gaugefn run
  gaugefn run --config gaugefn.toml
  GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__USE=host \\
    GAUGEFN__FUNCTIONS__DEFAULT__SINKS__STDOUT__USE=stdout \\
    USER_MODULE_PATH=fn.py gaugefn run")]
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        /// End with 69 if a source, sink, state or dead letters cannot be opened at the start, instead of waiting
        #[arg(long)]
        require_backend: bool,
    },
    /// Call a function with live metrics of this machine; nothing else is needed
    #[command(after_help = "\
Results go to standard output, one line of JSON each; everything else to standard error.
  gaugefn dev fn.py
  gaugefn dev fn.zip --entry app/main.py --handler process --every 250ms --count 3")]
    Dev {
        #[command(flatten)]
        function: FunctionArgs,
        /// Time between two calls: 500ms, 5s, or a number of seconds
        #[arg(long, value_name = "TIME", default_value = "1s")]
        every: Span,
        /// End after so many calls
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Call a function with events of a file, or with a built-in sample
    #[command(after_help = "\
Each line of FILE is one event, of 64 MiB at most; each event gives one line of JSON on standard output,
`null` where there is no result. If an event fails, the error is on standard error,
the rest still runs, and the exit code is 1.
  gaugefn invoke fn.py
  gaugefn invoke fn.py --event events.jsonl
  echo '{\"n_pids\": 3}' | gaugefn invoke fn.py --event -
  gaugefn invoke fn.py --context input_key=metrics --context output_key=result")]
    Invoke {
        #[command(flatten)]
        function: FunctionArgs,
        /// JSON lines, `-` for standard input; without it one built-in sample event
        #[arg(long, value_name = "FILE")]
        event: Option<PathBuf>,
        /// The state to begin with and to write at the end
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
        /// Facts for the function's context: host, port, input_key, output_key
        #[arg(long, value_name = "K=V")]
        context: Vec<String>,
    },
    /// Report all problems of the configuration at once
    #[command(after_help = "\
  gaugefn check --config gaugefn.toml
  gaugefn check --config gaugefn.toml --connect")]
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        /// Also open every connection and load every function
        #[arg(long)]
        connect: bool,
    },
    /// Show the effective configuration, secrets masked
    #[command(after_help = "  gaugefn config --config gaugefn.toml --explain")]
    Config {
        #[command(flatten)]
        config: ConfigArgs,
        /// Where each value came from
        #[arg(long)]
        explain: bool,
    },
    /// List every registered component
    #[command(after_help = "  gaugefn components --format json")]
    Components {
        /// How to print them
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Print the JSON Schema of the config file, for editors
    #[command(after_help = "  gaugefn schema > gaugefn.schema.json")]
    Schema {
        /// `json` for editors, `markdown` for people
        #[arg(long, value_enum, default_value_t = SchemaFormat::Json)]
        format: SchemaFormat,
    },
    /// Ask the running gaugefn of this machine whether it is alive; exit 0 or 1
    #[command(after_help = "\
It asks the admin endpoint that the configuration names, as the image's HEALTHCHECK does:
  GAUGEFN__ADMIN__LISTEN=127.0.0.1:9464 gaugefn health --ready")]
    Health {
        #[command(flatten)]
        config: ConfigArgs,
        /// Whether it is ready, too: sources, sinks and functions usable
        #[arg(long)]
        ready: bool,
    },
    /// Run two versions of a function over the same events and print where their results differ
    #[command(override_usage = "gaugefn replay [OPTIONS] --against <OTHER> --event <FILE> <PATH>")]
    #[command(after_help = "\
Each event whose results differ is named by its line in FILE, with every place that differs:
the value of PATH, then that of OTHER. Numbers are compared by value and objects without
regard to order; an event that fails in one version only differs, too. The last line on
standard error counts. The exit code is 0 without differences and 1 with any.
  gaugefn replay old.py --against new.py --event events.jsonl
  gaugefn replay fn.py --against target/release/libfn.so --event events.jsonl
  tail -n 100 events.jsonl | gaugefn replay old.zip --against new/ --event - --format json")]
    Replay(ReplayArgs),
    /// Make a new function, with tests, that works at once with `invoke` and `dev`
    #[command(after_help = "\
A function in Rust depends on the crate gaugefn-sdk by version, or by --sdk on a checkout of it.
  gaugefn init vm --lang python
  gaugefn init vm --lang rust
  gaugefn init vm --lang rust --sdk ../gaugefn/sdk")]
    Init(InitArgs),
    /// The failed events of a function: list, show, try again, delete
    #[command(after_help = "\
They are kept where errors.then is `dead_letter`, the default of streams.
  gaugefn dlq ls vm --config gaugefn.toml
  gaugefn dlq show vm 1795466129023-0 --config gaugefn.toml
  gaugefn dlq replay vm --config gaugefn.toml
Without ids each of them is about all letters of the function.")]
    Dlq {
        #[command(subcommand)]
        action: DlqAction,
    },
    /// One function in a process of its own, as `run` starts it
    #[command(hide = true)]
    Worker,
}

/// Where the configuration is.
#[derive(Debug, ClapArgs)]
pub(crate) struct ConfigArgs {
    /// A config file: .toml, .yaml or .json; also GAUGEFN_CONFIG
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Which function.
#[derive(Debug, ClapArgs)]
pub(crate) struct FunctionArgs {
    /// A .py file, a folder, a .zip or a .so
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The entry function; also USER_HANDLER_NAME
    #[arg(long, value_name = "NAME")]
    pub(crate) handler: Option<String>,
    /// The file with the entry function, in a folder or zip; also ZIP_ENTRY_RELATIVE_FILE_PATH
    #[arg(long, value_name = "FILE")]
    pub(crate) entry: Option<OsString>,
}

/// Which two versions over which events.
#[derive(Debug, ClapArgs)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) function: FunctionArgs,
    /// The other version: a .py file, a folder, a .zip or a .so, whatever PATH is
    #[arg(long, value_name = "OTHER", required_unless_present = "answer")]
    pub(crate) against: Option<PathBuf>,
    /// JSON lines, `-` for standard input
    #[arg(long, value_name = "FILE", required_unless_present = "answer")]
    pub(crate) event: Option<PathBuf>,
    /// Facts for the function's context: host, port, input_key, output_key
    #[arg(long, value_name = "K=V")]
    pub(crate) context: Vec<String>,
    /// How to print a difference
    #[arg(long, value_enum, default_value_t = ReplayFormat::Text)]
    pub(crate) format: ReplayFormat,
    /// Be one of the two versions: events from standard input, answers to standard output
    #[arg(long, hide = true)]
    pub(crate) answer: bool,
}

/// How a difference is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayFormat {
    /// A line for the event and one for each place.
    Text,
    /// One JSON object for each event.
    Json,
}

/// What to make, and where.
#[derive(Debug, ClapArgs)]
pub(crate) struct InitArgs {
    /// The function's folder: absent or empty
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The language to write it in
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub(crate) lang: Language,
    /// Rust: depend on the crate gaugefn-sdk in this folder instead of on its published version
    #[arg(long, value_name = "PATH")]
    pub(crate) sdk: Option<PathBuf>,
}

/// A language for functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// One file, no package needed.
    Python,
    /// A crate that becomes a shared library.
    Rust,
}

/// What to do with failed events.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqAction {
    /// One line for each, oldest first
    Ls {
        #[command(flatten)]
        of: DlqArgs,
        #[command(flatten)]
        which: DlqChoice,
        /// `table` for people, `json` for machines: all of each letter in a line
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// All that is known of them: payload, error, traceback
    Show {
        #[command(flatten)]
        of: DlqArgs,
        #[command(flatten)]
        which: DlqChoice,
    },
    /// Try them again; those that succeed are removed
    #[command(after_help = "\
Where source and letters are on one Redis server, each goes back into the source's stream, in
one step, and the running function gets it as a new event; so does every other consumer group of
the stream, which is said. Elsewhere, and with --here, this process calls the function itself,
with its state and its sinks; what fails again stays. The exit code is 1 when one failed, or is
not there.")]
    Replay {
        #[command(flatten)]
        of: DlqArgs,
        #[command(flatten)]
        which: DlqChoice,
        /// Call the function in this process also where they could go back into the source's stream
        #[arg(long)]
        here: bool,
    },
    /// Delete them
    Purge {
        #[command(flatten)]
        of: DlqArgs,
        #[command(flatten)]
        which: DlqChoice,
    },
}

/// Whose failed events.
#[derive(Debug, ClapArgs)]
pub(crate) struct DlqArgs {
    /// The function; the one that the environment describes is `default`
    #[arg(value_name = "FUNCTION")]
    pub(crate) function: String,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Which of them.
#[derive(Debug, ClapArgs)]
pub(crate) struct DlqChoice {
    /// Which, as `ls` names them; without any, all of the function
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// All of the function, as without ids
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
}

/// How components are printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// How the schema is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemaFormat {
    /// JSON Schema.
    Json,
    /// A reference page.
    Markdown,
}
