//! A library with a state. The feature `newer` makes a later version of it, in which one type has become another.

use gaugefn_sdk::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const VERSION: u32 = if cfg!(feature = "newer") { 2 } else { 1 };

#[derive(Default, Serialize, Deserialize)]
struct Count(u64);

#[cfg(not(feature = "newer"))]
#[derive(Default, Serialize, Deserialize)]
struct Window(Vec<f64>);

#[cfg(feature = "newer")]
#[derive(Default, Serialize, Deserialize)]
struct Window {
    samples: Vec<f64>,
}

/// Nothing that JSON can write.
#[derive(Default, Serialize, Deserialize)]
struct Pairs(std::collections::BTreeMap<(u8, u8), u8>);

fn handler(event: Value, context: &mut Context) -> Result<Value, String> {
    match event.as_str() {
        Some("count") => {
            context.state::<Count>().0 += 1;
            let n = context.env.get("n").and_then(Value::as_u64).unwrap_or_default() + 1;
            context.env.insert("n".to_owned(), n.into());
            Ok(json!({"version": VERSION, "typed": context.state::<Count>().0, "env": n}))
        }
        Some("window") => {
            let window = context.state::<Window>();
            #[cfg(not(feature = "newer"))]
            let samples = &mut window.0;
            #[cfg(feature = "newer")]
            let samples = &mut window.samples;
            samples.push(0.5);
            Ok(json!({"version": VERSION, "samples": samples.len()}))
        }
        Some("pairs") => {
            let pairs = &mut context.state::<Pairs>().0;
            pairs.insert((pairs.len() as u8, 2), 3);
            Ok(json!(pairs.len()))
        }
        // in milliseconds
        Some("remaining") => Ok(json!(context.remaining().map(|left| left.as_millis() as u64))),
        Some("fail") => {
            context.state::<Count>().0 += 1;
            Err("as asked".to_owned())
        }
        _ => Err(format!("unknown: {event}")),
    }
}

gaugefn_sdk::export! { handler = handler }
