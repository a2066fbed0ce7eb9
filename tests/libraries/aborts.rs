//! A library that is built with panic = "abort".

use gaugefn_sdk::Context;

fn handler(event: &[u8], _context: &mut Context) -> Result<Option<Vec<u8>>, String> {
    Ok(Some(event.to_vec()))
}

gaugefn_sdk::export! { handler = handler as raw }
