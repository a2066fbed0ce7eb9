//! `gaugefn schema`: the config file's schema, for editors and for people.

use runtime_core::config::schema::whole;

use super::{Context, refuse};
use crate::args::SchemaFormat;
use crate::reference;

pub(super) fn schema(context: &Context, format: SchemaFormat) -> u8 {
    match whole() {
        Ok(schema) => context.print(&match format {
            SchemaFormat::Json => format!("{schema:#}\n"),
            SchemaFormat::Markdown => reference::markdown(&schema),
        }),
        Err(fault) => refuse(&fault),
    }
}
