//! The harness of the workspace's integration tests, as far as it is about servers.

#![allow(dead_code)]

#[path = "../../../tests/it/support/port.rs"]
pub(crate) mod port;
#[path = "../../../tests/it/support/redis.rs"]
pub(crate) mod redis;
#[path = "../../../tests/it/support/wait.rs"]
pub(crate) mod wait;
