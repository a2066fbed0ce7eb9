//! From the command line and the environment to settings: reads the layers, lays them over each other, checks them.

use std::path::PathBuf;

use config::Value;
use runtime_core::config::layers::{self, Variables};
use runtime_core::config::{Problem, Settings, tree};
use runtime_core::contract::Fault;

use crate::args::ConfigArgs;
use crate::deployment;
use crate::log;

/// The merged tree, not yet checked.
pub(crate) struct Layered {
    /// All layers, one over the other.
    pub(crate) tree: Value,
    /// The config file as it was named.
    pub(crate) file: Option<String>,
    /// For the log.
    pub(crate) warnings: Vec<String>,
    /// What the layers themselves had to complain of.
    problems: Vec<Problem>,
}

/// Reads all layers.
///
/// # Errors
/// The config file is missing or cannot be parsed.
pub(crate) fn layered(args: &ConfigArgs, variables: &dyn Variables) -> Result<Layered, Fault> {
    let path = args.config.clone().or_else(|| variables.get("GAUGEFN_CONFIG").map(PathBuf::from));
    let mut tree = match &path {
        Some(path) => layers::file(path)?,
        None => layers::empty(),
    };
    let deployment = deployment::read(variables, &mut tree);
    tree::overlay(&mut tree, deployment.tree);
    let (overrides, mut problems) = layers::overrides(variables, &tree);
    tree::overlay(&mut tree, overrides);
    problems.extend(deployment.problems);
    Ok(Layered { tree, file: path.map(|path| path.display().to_string()), warnings: deployment.warnings, problems })
}

impl Layered {
    /// The settings.
    ///
    /// # Errors
    /// All problems at once, sorted by path.
    pub(crate) fn settings(&self) -> Result<Settings, Vec<Problem>> {
        let read = Settings::read(&self.tree, self.file.as_deref());
        let mut problems = self.problems.clone();
        match read {
            Ok(settings) => {
                if let Err(message) = log::filter(&settings.log.level) {
                    let log = tree::table(&self.tree).and_then(|top| top.get("log")).and_then(tree::table);
                    let origin = log.and_then(|log| log.get("level")).and_then(tree::origin);
                    problems.push(Problem::new("log.level", message, origin));
                }
                if problems.is_empty() {
                    return Ok(settings);
                }
            }
            Err(more) => problems.extend(more),
        }
        problems.sort();
        problems.dedup();
        Err(problems)
    }
}
