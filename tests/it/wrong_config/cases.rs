//! The wrong configurations, by what they are about.

pub(super) use super::together::TOGETHER;
use super::{Case, MISSING, file, toml, variables};

/// Config files as such.
pub(super) const FILES: &[Case] = &[
    variables("a file that is not there", "GAUGEFN_CONFIG=none.toml").exits(MISSING),
    variables("a folder in the place of the file", "GAUGEFN_CONFIG=folder.toml").exits(MISSING),
    file("an ending without a format", "gaugefn.ini", "[log]\n"),
    file("no ending", "gaugefn", "[log]\n"),
    toml("TOML that is broken, with a secret in that line", "[redis]\nport = PORT\npassword = \"hunter2\n"),
    toml("TOML with a key twice", "[log]\nlevel = 'info'\nlevel = 'warn'\n"),
    toml("TOML without quotes", "[functions.vm.source]\nuse = redis_key\n"),
    file("JSON with a key twice", "gaugefn.json", "{\"log\": {\"level\": \"info\"},\n \"log\": {}}\n"),
    file("YAML with a key twice", "gaugefn.yaml", "redis:\n  password: hunter2\n  password: hunter2\n"),
    toml("keys that differ by case", "[log]\nLevel = 'info'\nlevel = 'warn'\n"),
    file("two YAML documents", "gaugefn.yaml", "log: {}\n---\nredis: {}\n"),
    file("YAML that names what is not there", "gaugefn.yaml", "log: *other\n"),
    file("YAML that is broken", "gaugefn.yaml", "redis:\n  password: \"hunter2\n  port: 1\nfunctions: [\n"),
    file("YAML with tabs", "gaugefn.yml", "log:\n\tlevel: info\n"),
    file("JSON that is broken", "gaugefn.json", "{\"redis\": {\"password\": \"hunter2\", \"port\": PORT,}}\n"),
    file("JSON that is a list", "gaugefn.json", "[1, 2]\n"),
    file("YAML that is a word", "gaugefn.yaml", "functions\n"),
];

/// Tables, their names, and the names of components.
pub(super) const TABLES: &[Case] = &[
    toml("a misspelt table", "[function.vm.source]\nuse = 'host'\n"),
    toml("a table that nobody knows", "[database]\nurl = 'x'\n"),
    toml("functions that are no table", "functions = 'vm.py'\n"),
    toml("a function that is no table", "[functions]\nvm = 'vm.py'\n"),
    file(
        "capitals in names",
        "gaugefn.yaml",
        "functions:\n  VM:\n    Source: {use: host}\n    loader: {use: file, path: vm.py}\n",
    ),
    toml(
        "a sink's label that is none",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.'1st']\nuse = 'stdout'\n",
    ),
    toml("a function of nothing", "[functions.vm]\n"),
    toml(
        "a source without its name",
        "[functions.vm.source]\nkey = 'metrics'\n[functions.vm.loader]\npath = 'vm.py'\n",
    ),
    toml(
        "misspelt components",
        "[functions.vm.source]\nuse = 'redis-key'\n[functions.vm.loader]\nuse = 'zipp'\n[functions.vm.executor]\nuse = 'pyton'\n[functions.vm.state]\nuse = 'memroy'\n[functions.vm.sinks.out]\nuse = 'stduot'\n",
    ),
    toml(
        "components that nobody knows",
        "[functions.vm.source]\nuse = 'kafka'\n[functions.vm.loader]\nuse = 'git'\n[functions.vm.executor]\nuse = 'lua'\n[functions.vm.state]\nuse = 'postgres'\n[functions.vm.sinks.out]\nuse = 'mqtt'\n",
    ),
    toml("a component's name that is a number", "[functions.vm.source]\nuse = 5\n[functions.vm.loader]\nuse = true\n"),
    file(
        "a component's name where its table should be",
        "gaugefn.json",
        "{\"functions\": {\"vm\": {\"source\": \"host\", \"executor\": \"passthrough\", \"sinks\": {\"out\": \"stdout\"}}}}\n",
    ),
    toml(
        "a sink without its name, and a misspelt part",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.result]\nkey = 'r'\n[functions.vm.sink.stdout]\n",
    ),
    toml(
        "sinks as a list",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n[[functions.vm.sinks]]\nuse = 'stdout'\n",
    ),
    toml("words where variables go on with tables", "log = 'info'\n[functions]\n")
        .with("GAUGEFN__LOG__FORMAT=json\nREDIS_OUTPUT_KEY=r"),
    toml("a url where variables go on with a table", "redis = 'redis://:hunter2@127.0.0.1:PORT'\n").with("REDIS_DB=1"),
    toml(
        "a second Python function in one process",
        "[functions.a]\nisolation = 'inline'\n[functions.a.source]\nuse = 'host'\n[functions.a.loader]\nuse = 'file'\npath = 'a.py'\n[functions.b]\nisolation = 'inline'\n[functions.b.source]\nuse = 'host'\n[functions.b.loader]\nuse = 'file'\npath = 'b.py'\n",
    ),
];

/// Options and their values.
pub(super) const OPTIONS: &[Case] = &[
    toml(
        "a misspelt option",
        "[functions.vm.source]\nuse = 'host'\nperod = '5s'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\n",
    ),
    toml(
        "options of another component",
        "[functions.vm.source]\nuse = 'host'\nkey = 'metrics'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\nentry = 'main.py'\n[functions.vm.sinks.stdout]\npath = 'x'\n",
    ),
    toml(
        "a source without its key",
        "[functions.vm.source]\nuse = 'redis_key'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a source's values",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 7\nperiod = 'soon'\ntrigger = 'sometimes'\nwatch = true\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "an empty key and no period",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = ''\nperiod = 0\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a period below nothing",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\nperiod = -5\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a period of years",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\nperiod = '1000d'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a period that is too short to measure",
        "[functions.vm.source]\nuse = 'host'\nperiod = '10ms'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a source's file without its path",
        "[functions.vm.source]\nuse = 'file'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "what gaugefn says, and where it is asked",
        "[log]\nlevel = 'loud'\nformat = 'xml'\n[admin]\nlisten = '9464'\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a level alone",
        "[log]\nlevel = 'verbose'\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a function's values",
        "[functions.vm]\nhandler = 5\ndrain = 'long'\nworkers = -1\nisolation = 'thread'\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "no entry function and no worker",
        "[functions.vm]\nhandler = ' '\nworkers = 0\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "an error policy",
        "[functions.vm.errors]\nretries = -1\nbackoff = 'a while'\nthen = 'ignore'\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "failed events without a place",
        "[functions.vm.errors]\nthen = 'dead_letter'\n[functions.vm.source]\nuse = 'host'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a place that nothing goes to",
        "[functions.vm.dead_letters]\nuse = 'redis'\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "dead letters without their name",
        "[functions.vm.dead_letters]\npath = 'd'\n[functions.vm.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "dead letters' values in Redis",
        "[functions.vm.dead_letters]\nuse = 'redis'\nstream = ''\nmax_length = -1\nurl = 'http://:hunter2@127.0.0.1:PORT'\nsteam = 'x'\n[functions.vm.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "dead letters in a file without its path, and in none",
        "[functions.a.dead_letters]\nuse = 'file'\n[functions.a.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.b.dead_letters]\nuse = 'file'\npath = '/'\n[functions.b.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.b.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a misspelt place",
        "[functions.vm.dead_letters]\nuse = 'reddis'\n[functions.vm.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "state that outlives the workers that it belongs to",
        "[functions.vm]\nworkers = 2\n[functions.vm.state]\nuse = 'redis'\nscope = 'worker'\n[functions.vm.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\n",
    ),
    toml(
        "executors that do not suit the loaders",
        "[functions.a.source]\nuse = 'host'\n[functions.a.loader]\nuse = 'native'\npath = 'libvm.so'\n[functions.a.executor]\nuse = 'python'\n[functions.b.source]\nuse = 'host'\n[functions.b.loader]\nuse = 'file'\npath = 'vm.py'\n[functions.b.executor]\nuse = 'native'\n",
    ),
    toml(
        "a file and its text",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\nsource = 'handler = print'\n",
    ),
    toml(
        "a file without its path",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.loader]\nuse = 'file'\n",
    ),
    toml(
        "a folder without its path",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.loader]\nuse = 'dir'\npath = ''\n",
    ),
    toml(
        "a zip's limits",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.loader]\nuse = 'zip'\npath = 'f.zip'\nmax_entries = 1.5\nmax_total = 'much'\nmax_ratio = -1\n",
    ),
    toml(
        "a zip of nothing",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.loader]\nuse = 'zip'\nmax_entries = 0\nmax_total = 0\n",
    ),
    toml(
        "an executor's folders and files",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\n[functions.vm.executor]\nuse = 'python'\npath = '/opt/lib'\nrequirement = 'r.txt'\nvenv = ''\n",
    ),
    toml(
        "a sink's values",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.redis_key]\nkey = 'result:{/host'\nttl = 'ever'\n[functions.vm.sinks.file]\nsync = 'yes'\n",
    ),
    toml(
        "a sink that would keep nothing",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.redis_key]\nkey = 'r'\nttl = 0\npublish = ''\n",
    ),
    toml(
        "an empty key of a sink",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.redis_key]\nkey = ''\n",
    ),
    toml(
        "a server of a sink's own",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.redis_key]\nkey = 'r'\nurl = 'http://:hunter2@127.0.0.1:PORT'\n",
    ),
];

/// `[redis]`.
pub(super) const CONNECTIONS: &[Case] = &[
    toml("a misspelt option of the connection", "[redis]\nport = PORT\npasword = 'hunter2'\nhots = 'cache'\n"),
    toml("a url instead of the table", "redis = 'redis://:hunter2@127.0.0.1:PORT'\n"),
    toml("a url of something else", "[redis]\nurl = 'https://me:hunter2@127.0.0.1:PORT'\n"),
    toml("a url that is none", "[redis]\nurl = '127.0.0.1:PORT'\n"),
    toml("a url with a password that is not encoded", "[redis]\nurl = 'redis://:hunter2/x@127.0.0.1:PORT'\n"),
    toml("a url that believes anybody", "[redis]\nurl = 'rediss://127.0.0.1:PORT/#insecure'\n"),
    toml("a database below nothing", "[redis]\nurl = 'redis://127.0.0.1:PORT/-1'\n"),
    toml(
        "a url and what contradicts it",
        "[redis]\nurl = 'redis://me:hunter2@127.0.0.1:PORT/1'\nhost = 'cache'\nport = 1\ndb = 2\nusername = 'you'\npassword = 'x'\n",
    ),
    toml("a host that is a url", "[redis]\nhost = 'redis://:hunter2@127.0.0.1:PORT'\n"),
    toml("a host with its port", "[redis]\nhost = ':hunter2@cache:PORT'\n"),
    toml("a host with a port", "[redis]\nhost = 'cache:PORT'\n"),
    toml("a host in quotes", "[redis]\nhost = '\"cache\"'\nport = PORT\n"),
    toml("two hosts", "[redis]\nhost = 'one, two'\nport = PORT\n"),
    toml("a url in quotes", "[redis]\nurl = '\"redis://:hunter2@127.0.0.1:PORT\"'\n"),
    toml("a host that is a socket", "[redis]\nhost = '/run/redis.sock'\n"),
    toml("a port that is none", "[redis]\nhost = '127.0.0.1'\nport = 70000\ndb = -1\n"),
    toml("the port 0", "[redis]\nhost = '127.0.0.1'\nport = 0\n"),
    toml("a port in quotes", "[redis]\nhost = '127.0.0.1'\nport = 'PORT'\n"),
    toml("a password without quotes", "[redis]\nport = PORT\npassword = 42\n"),
    toml("a secret in the wrong place", "[redis]\nport = 'redis://:hunter2@127.0.0.1:PORT'\n"),
    toml(
        "a password file that is not there",
        "[redis]\nport = PORT\npassword_file = 'none'\nusername_file = 'no-user'\n",
    ),
    toml("an authority without encryption", "[redis]\nport = PORT\nca_file = 'ca.pem'\n"),
    toml("an authority that is not there", "[redis]\nurl = 'rediss://127.0.0.1:PORT'\nca_file = 'ca.pem'\n"),
];

/// The variables of the default deployment.
pub(super) const DEFAULT_DEPLOYMENT: &[Case] = &[
    variables("a period in words", "REDIS_MONITOR_PERIOD=five"),
    variables("no period", "SLEEP_TIME=0"),
    variables("a period below nothing", "INTERVAL=-1"),
    variables("a port in words", "REDIS_HOST=127.0.0.1\nREDIS_PORT=default"),
    variables("a url in the place of the port", "REDIS_PORT=redis://:hunter2@127.0.0.1:PORT"),
    variables("a port that Kubernetes would not inject", "REDIS_HOST=127.0.0.1\nREDIS_PORT=tcp://10.0.0.1"),
    variables("a database in words", "REDIS_DB=metrics"),
    variables("a url of something else", "REDIS_URL=postgres://me:hunter2@127.0.0.1:PORT/db"),
    variables("a host and another one in the url", "REDIS_HOST=127.0.0.1\nREDIS_URL=redis://:hunter2@cache:PORT"),
    variables("two passwords", "REDIS_PASSWORD=hunter2\nREDIS_PASSWORD_FILE=/dev/null/none"),
    variables("a password file that is not there", "REDIS_PASSWORD_FILE=/run/secrets/none"),
    variables("neither file nor zip", "PYFILE_OR_ZIP=folder"),
    variables("a zip that is not named", "RUNTIME_SOURCE_TYPE=zip"),
    variables("a zip to download", "ZIP_URL=https://me:hunter2@example.org/function.zip?token=hunter2"),
    variables("a module without a function", "USER_HANDLER_NAME=main."),
    variables("a placeholder without its end", "REDIS_OUTPUT_KEY=result:{/host"),
    variables(
        "all of them",
        "REDIS_MONITOR_PERIOD=five\nREDIS_DB=metrics\nPYFILE_OR_ZIP=folder\nUSER_HANDLER_NAME=main.\nREDIS_OUTPUT_KEY={/\nGAUGEFN__LOG__LEVEL=loud",
    ),
];

/// `GAUGEFN__…`.
pub(super) const OVERRIDING: &[Case] = &[
    variables("a misspelt option", "GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__PEROD=5s"),
    variables("a misspelt table", "GAUGEFN__REDSI__HOST=cache"),
    variables("a misspelt component", "GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__USE=redis_kye"),
    variables("a component where its table should be", "GAUGEFN__FUNCTIONS__DEFAULT__SOURCE=host"),
    variables("values that are no numbers", "GAUGEFN__REDIS__PORT=many\nGAUGEFN__FUNCTIONS__DEFAULT__WORKERS=two"),
    variables("a value that is no truth", "GAUGEFN__FUNCTIONS__DEFAULT__SINKS__FILE__PATH=x\nGAUGEFN__FUNCTIONS__DEFAULT__SINKS__FILE__SYNC=maybe"),
    variables("a level that is none", "GAUGEFN__LOG__LEVEL=loud\nGAUGEFN__LOG__FORMAT=JSON"),
    variables("an address that is none", "GAUGEFN__ADMIN__LISTEN=:9464"),
    variables("a path that is none", "GAUGEFN__LOG____LEVEL=info\nGAUGEFN__=x"),
    variables("a label that is none", "GAUGEFN__FUNCTIONS__1ST__SOURCE__USE=host\nGAUGEFN__FUNCTIONS__1ST__EXECUTOR__USE=passthrough"),
    variables("half a function", "GAUGEFN__FUNCTIONS__VM__HANDLER=process"),
    variables("functions that are no table", "GAUGEFN__FUNCTIONS=vm"),
    variables("a secret in the wrong place", "GAUGEFN__REDIS=redis://:hunter2@127.0.0.1:PORT"),
    toml(
        "a name that fits two functions",
        "[functions.my-vm_a.source]\nuse = 'host'\n[functions.my-vm_a.executor]\nuse = 'passthrough'\n[functions.my_vm-a.source]\nuse = 'host'\n[functions.my_vm-a.executor]\nuse = 'passthrough'\n",
    )
    .with("GAUGEFN__FUNCTIONS__MY_VM_A__SOURCE__PERIOD=5s"),
    toml(
        "an option that the file has and one that it has not",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    )
    .with("GAUGEFN__FUNCTIONS__VM__SOURCE__PERIOD=never\nGAUGEFN__FUNCTIONS__VM__SINKS__RESULT__KEY=r"),
];

/// What is reserved for later versions.
pub(super) const LATER: &[Case] = &[
    toml(
        "components",
        "[functions.a.source]\nuse = 'nats'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.a.sinks.nats]\nsubject = 's'\n[functions.b.source]\nuse = 'http'\n[functions.b.executor]\nuse = 'passthrough'\n[functions.b.sinks.p]\nuse = 'prometheus'\n",
    ),
    toml(
        "options of a function",
        "[functions.vm]\nisolation = 'process'\ntimeout = '10s'\nworkers = 4\nstandby = 'imported'\nmemory_limit = '1GiB'\nmax_events = 9\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a deadline, workers and a process alone",
        "[functions.vm]\nisolation = 'process'\ntimeout = '10s'\nworkers = 4\n[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "options of components",
        "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\nlease = '5s'\n[functions.vm.loader]\nuse = 'file'\npath = 'vm.py'\nreload = true\nreload_state = 'keep'\n[functions.vm.state]\nuse = 'memory'\nkey = '/host'\nttl = '1h'\nmax_bytes = '1MiB'\nscope = 'worker'\n",
    ),
    toml(
        "states by key of a native function",
        "[functions.vm.source]\nuse = 'host'\n[functions.vm.loader]\nuse = 'native'\npath = 'vm.so'\n[functions.vm.executor]\nuse = 'native'\n[functions.vm.state]\nkey = '/host'\nttl = '1h'\n",
    ),
];

/// One file with a mistake of every kind, and variables above it.
pub(super) const EVERYTHING: Case = toml(
    "everything at once",
    "\
[lgo]
level = 'info'

[log]
level = 'loud'
format = 'xml'

[admin]
listen = 'everywhere'
port = 9464

[redis]
url = 'redis://me:hunter2@127.0.0.1:PORT/1'
db = 2
host = 'cache'
pasword = 'hunter2'

[functions.VM.source]
use = 'host'
period = '1ms'

[functions.vm]
handler = ''
timeout = '10s'
drain = 'long'
wrokers = 2

[functions.vm.source]
use = 'redis_key'
perod = '5s'
trigger = 'sometimes'
lease = '5s'

[functions.vm.loader]
use = 'file'
path = 'a.py'
source = 'handler = print'

[functions.vm.executor]
use = 'pyhton'

[functions.vm.state]
use = 'redis'

[functions.vm.errors]
retries = -1
then = 'later'

[functions.vm.sinks.result]
key = 'r'

[functions.vm.sinks.redis_key]
key = '{/host'
ttl = 'ever'
",
)
.with("GAUGEFN__FUNCTIONS__VM__SINKS__FILE__SYNC=maybe\nGAUGEFN__LOG____LEVEL=info");

/// What most of the cases above are, without what is wrong with them.
pub(super) const CONTROL: &str =
    "[functions.vm.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.vm.executor]\nuse = 'passthrough'\n";

/// Three functions with nothing wrong.
pub(super) const SOUND: &str = "\
[log]
level = 'warn'

[admin]
listen = '127.0.0.1:9464'

[redis]
url = 'redis://127.0.0.1:PORT/0'
password_file = 'secret'

[functions.metrics.source]
use = 'host'

[functions.metrics.executor]
use = 'passthrough'

[functions.metrics.sinks.redis_key]
key = 'metrics'
ttl = '1m'

[functions.metrics.sinks.other]
use = 'redis_key'
key = 'metrics'
url = 'redis://me:hunter2@127.0.0.1:PORT/0'

[functions.entries.source]
use = 'redis_stream'
stream = 'events'
start = 0
url = 'redis://me:hunter2@127.0.0.1:PORT/1'

[functions.entries.executor]
use = 'passthrough'

[functions.entries.sinks.stdout]

[functions.vm]
handler = 'process'

[functions.vm.source]
use = 'redis_key'
key = 'metrics'

[functions.vm.loader]
use = 'zip'
path = 'function.zip'

[functions.vm.sinks.stdout]
";
