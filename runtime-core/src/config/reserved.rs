//! Names that documents and deployments may already use and that this version cannot serve yet. They are refused
//! with "not available in this version", never ignored and never called unknown.

/// Components of later versions, by role.
const COMPONENTS: &[(&str, &[&str])] =
    &[("source", &["http", "cron", "nats"]), ("sink", &["http", "nats", "prometheus"])];

/// Whether this role will have a component of this name.
#[must_use]
pub fn is_component(role: &str, name: &str) -> bool {
    COMPONENTS.iter().any(|(of, names)| *of == role && names.contains(&name))
}
