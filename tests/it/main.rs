//! Integration tests of the binary against real servers: a table of contents.

#![allow(clippy::unwrap_used)]

mod support;

mod idioms;
