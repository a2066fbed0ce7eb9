//! Integration tests: the real binary, a real redis-server, a real CPython.
//!
//! * `idioms` - published kinds of functions give what a plain Python loop gives
//! * `deployment` - variables of the default deployment, and forms of a zip
//! * `wrong_config` - wrong configurations and what is said of them
//! * `changes` - when the function is called, and when not
//! * `watch` - notifications, polling, and what happens in between
//! * `streams` - entries of a Redis stream, shared by processes that are killed
//! * `permissions` - streams for a user who may do what the documentation says, and no more
//! * `exactly_once` - streams with durable states, through kills of everything
//! * `cluster` - keys that one transaction cannot span
//! * `delivery` - what becomes of events whose calls end in every way: docs/delivery.md
//! * `restarts` - processes that are killed, and the state that their successors find
//! * `poison` - what a batch costs on the server, and what events that always fail cost the others
//! * `faults` - servers that are killed, stopped, cut off, or refuse
//! * `stopping` - signals, draining, exit codes
//! * `keyed` - one state for each value found in the events
//! * `lease` - one of several processes runs a function, the others take over
//! * `local` - `invoke` and `dev`, without Redis
//! * `lines` - events that are too long, or no text
//! * `paths` - names that are no UTF-8
//! * `init` - new functions
//! * `replay` - two versions of a function over the same events
//! * `dlq` - events that failed for good: listed, shown, tried again, deleted
//! * `results` - results that no sink can store, or that would go where they must not
//! * `python_errors` - functions that cannot be loaded, or that fail
//! * `hostile_zips` - zips from strangers
//! * `config_files` - files that are small and stand for much
//! * `pairing` - loaders and executors that agree by themselves
//! * `native` - shared libraries: results, refusals, panics
//! * `reload` - new code takes over while the function runs
//! * `workers` - what hangs or crashes in a process of its own, and what is left of it
//! * `together` - several functions in one process
//! * `footprint` - memory, start, cores
//! * `output` - what user code says: all of it arrives, and holds up nothing
//! * `surroundings` - logs, results, terminals and descriptors that stop working
//! * `manifests` - what lies in `deploy/`
//! * `admin` - health, readiness, metrics
//! * `components` - what is registered, also in a release build
//! * `adding_a_source` - the walk-through of the docs, built
//! * `house_rules` - who may import whom, where `unsafe` stands, that generated docs are fresh
//!
//! `support` starts servers and processes, and ends them.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "tests look at the environment that they were started in")]

mod support;

mod adding_a_source;
mod admin;
mod changes;
mod cluster;
mod components;
mod config_files;
mod delivery;
mod deployment;
mod dlq;
mod exactly_once;
mod faults;
mod footprint;
mod hostile_zips;
mod house_rules;
mod idioms;
mod init;
mod keyed;
mod lease;
mod lines;
mod local;
mod manifests;
mod native;
mod output;
mod pairing;
mod paths;
mod permissions;
mod poison;
mod python_errors;
mod reload;
mod replay;
mod restarts;
mod results;
mod stopping;
mod streams;
mod surroundings;
mod together;
mod watch;
mod workers;
mod wrong_config;
