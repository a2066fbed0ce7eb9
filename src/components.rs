//! Names every component crate once, so that they are linked: a crate that nothing names is left out silently.

use {executors as _, loaders as _, sinks as _, sources as _, stores as _};

use runtime_core::Shared;

// redis-link knows nothing of the registry, so its table is registered here
inventory::submit!(Shared::of::<redis_link::Settings>("redis"));
