//! Functions, and parts of one, that are given the same thing.

use super::{Case, toml};

/// Consumer groups, states, dead letters, and functions that are fed with their own results.
pub(super) const TOGETHER: &[Case] = &[
    toml(
        "one group for two functions, by its name and by that of the function",
        "[functions.a.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.b.source]\nuse = 'redis_stream'\nstream = 's'\ngroup = 'a'\nconsumer = 'two'\n[functions.b.executor]\nuse = 'passthrough'\n[functions.c.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.c.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "one state for two functions, and for a sink",
        "[redis]\nhost = '127.0.0.1'\nport = PORT\n[functions.a.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.a.state]\nuse = 'redis'\n[functions.b.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.b.executor]\nuse = 'passthrough'\n[functions.b.state]\nuse = 'redis'\nprefix = 'gaugefn:state:{a}'\nurl = 'redis://me:hunter2@127.0.0.1:PORT'\n[functions.c.source]\nuse = 'redis_key'\nkey = 'm'\n[functions.c.executor]\nuse = 'passthrough'\n[functions.c.sinks.redis_key]\nkey = 'gaugefn:state:{a}'\n",
    ),
    toml(
        "one file for two states, results and dead letters",
        "[functions.a.source]\nuse = 'host'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.a.state]\nuse = 'file'\npath = 'one.json'\nkey = '/host'\n[functions.b.source]\nuse = 'host'\n[functions.b.executor]\nuse = 'passthrough'\n[functions.b.state]\nuse = 'file'\npath = './one.json'\n[functions.b.sinks.file]\npath = 'two.json'\n[functions.c.source]\nuse = 'host'\n[functions.c.executor]\nuse = 'passthrough'\n[functions.c.sinks.file]\npath = 'one.json'\n",
    ),
    toml(
        "one place for the dead letters of two functions",
        "[functions.a.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.a.dead_letters]\nuse = 'redis'\nstream = 'gaugefn:dead:{b}'\n[functions.b.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.b.executor]\nuse = 'passthrough'\n[functions.c.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.c.executor]\nuse = 'passthrough'\n[functions.c.dead_letters]\nuse = 'file'\npath = 'dead'\n[functions.d.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.d.executor]\nuse = 'passthrough'\n[functions.d.dead_letters]\nuse = 'file'\npath = 'dead'\n",
    ),
    toml(
        "results in the stream that they come from",
        "[functions.vm.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.redis_stream]\nstream = 's'\n[functions.vm.sinks.redis_key]\nkey = 's'\n[functions.vm.sinks.elsewhere]\nuse = 'redis_stream'\nstream = 's'\nurl = 'redis://127.0.0.1:PORT/1'\n[functions.vm.sinks.many]\nuse = 'redis_stream'\nstream = 's{/host}'\n",
    ),
    toml(
        "lines in the file that they come from",
        "[functions.vm.source]\nuse = 'file'\npath = 'events.jsonl'\n[functions.vm.executor]\nuse = 'passthrough'\n[functions.vm.sinks.file]\npath = './events.jsonl'\n",
    ),
    toml(
        "dead letters in the stream that they come from, and among results",
        "[functions.a.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.a.dead_letters]\nuse = 'redis'\nstream = 's'\n[functions.b.source]\nuse = 'redis_stream'\nstream = 'r'\n[functions.b.executor]\nuse = 'passthrough'\n[functions.b.sinks.redis_stream]\nstream = 'out'\n[functions.b.dead_letters]\nuse = 'redis'\nstream = 'out'\n",
    ),
    toml(
        "a group beside other mistakes",
        "[functions.a]\nworkers = 0\n[functions.a.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.a.executor]\nuse = 'passthru'\n[functions.b.source]\nuse = 'redis_stream'\nstream = 's'\ngroup = 'a'\n[functions.b.executor]\nuse = 'passthrough'\n",
    ),
    toml(
        "a lease for states that are shared, and room for none",
        "[functions.a.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.a.executor]\nuse = 'passthrough'\n[functions.a.state]\nuse = 'redis'\nkey = '/host'\nlease = '10s'\nmax_bytes = 0\n[functions.b.source]\nuse = 'redis_stream'\nstream = 's'\n[functions.b.executor]\nuse = 'passthrough'\n[functions.b.state]\nuse = 'file'\npath = 'b.json'\nmax_bytes = 0\n",
    ),
];
