//! `gaugefn components`: everything that can be named after `use`.

use runtime_core::contract::{DeadLetters, Executor, Fault, Loader, Sink, Source, StateStore};
use runtime_core::registry::{Entry, Registry, Role};

use super::{Context, refuse};
use crate::args::Format;

/// Role, name, summary.
type Row = (&'static str, &'static str, &'static str);

pub(super) fn components(context: &Context, format: Format) -> u8 {
    let rows = match rows() {
        Ok(rows) => rows,
        Err(fault) => return refuse(&fault),
    };
    let text = match format {
        Format::Json => {
            let list: Vec<_> = rows
                .iter()
                .map(|(role, name, summary)| serde_json::json!({ "role": role, "name": name, "summary": summary }))
                .collect();
            format!("{:#}\n", serde_json::Value::from(list))
        }
        Format::Table => {
            rows.iter().map(|(role, name, summary)| format!("{role:<12} {name:<13} {summary}\n")).collect()
        }
    };
    context.print(&text)
}

/// All components, by role in the order of an event's way, then by name.
pub(crate) fn rows() -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    add::<dyn Source>(&mut rows)?;
    add::<dyn Loader>(&mut rows)?;
    add::<dyn Executor>(&mut rows)?;
    add::<dyn StateStore>(&mut rows)?;
    add::<dyn Sink>(&mut rows)?;
    add::<dyn DeadLetters>(&mut rows)?;
    Ok(rows)
}

fn add<R: Role + ?Sized>(rows: &mut Vec<Row>) -> Result<(), Fault>
where
    Entry<R>: inventory::Collect,
{
    rows.extend(Registry::<R>::collect()?.entries().iter().map(|entry| (R::NAME, entry.name, entry.summary)));
    Ok(())
}
