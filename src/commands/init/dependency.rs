//! How a new function in Rust depends on the sdk: by version, or by the path of a checkout.

use std::fs;
use std::path::{Component, Path, PathBuf};

use runtime_core::contract::Blame;

use super::Refusal;

const SDK: &str = "gaugefn-sdk";

/// The line of the manifest in `dir`, an absolute path without links. A relative `sdk` becomes relative to it.
///
/// # Errors
/// There is no such crate at `sdk`.
pub(super) fn on_sdk(sdk: Option<&Path>, dir: &Path) -> Result<String, Refusal> {
    let Some(sdk) = sdk else {
        // the sdk goes with the runtime: any of the same minor version will do
        let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
        return Ok(format!("{SDK} = \"{major}.{minor}\""));
    };
    let shown = sdk.display();
    let missing = |reason: &str| Refusal {
        message: format!("--sdk '{shown}': {reason}; name the folder of the crate {SDK}"),
        code: Blame::File.exit_code(),
    };
    let manifest =
        fs::read_to_string(sdk.join("Cargo.toml")).map_err(|_| missing("no Cargo.toml can be read there"))?;
    let manifest: toml::Table = manifest.parse().map_err(|_| missing("its Cargo.toml is no TOML"))?;
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    match name {
        Some(SDK) => {}
        Some(name) => return Err(missing(&format!("this is the crate '{name}'"))),
        None => return Err(missing("this is no crate")),
    }
    let path = if sdk.is_absolute() {
        sdk.to_owned()
    } else {
        relative(&sdk.canonicalize().map_err(|_| missing("it cannot be read"))?, dir)
    };
    let Some(path) = path.to_str() else {
        return Err(missing("cargo needs a path in UTF-8"));
    };
    Ok(format!("{SDK} = {{ path = {} }}", toml::Value::from(path)))
}

/// The way from one absolute folder to another one.
fn relative(to: &Path, from: &Path) -> PathBuf {
    let shared = to.components().zip(from.components()).take_while(|(to, from)| to == from).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_way_goes_up_and_down() {
        for (to, from, way) in [
            ("/a/sdk", "/a/vm", "../sdk"),
            ("/sdk", "/a/b/vm", "../../../sdk"),
            ("/a/vm/sdk", "/a/vm", "sdk"),
            ("/a", "/a/b/vm", "../.."),
        ] {
            assert_eq!(relative(Path::new(to), Path::new(from)), Path::new(way), "{from} to {to}");
        }
    }

    #[test]
    fn by_version_and_by_path() {
        let version = on_sdk(None, Path::new("/vm")).unwrap();
        assert!(env!("CARGO_PKG_VERSION").starts_with(version.split('"').nth(1).unwrap()), "{version}");
        let folder = tempfile::tempdir().unwrap();
        let sdk = folder.path().join("the \"sdk\"");
        fs::create_dir(&sdk).unwrap();
        let said = |dir: &Path| on_sdk(Some(dir), Path::new("/vm")).unwrap_err();
        assert_eq!(said(&sdk).code, 66);
        assert!(
            said(&sdk).message.ends_with("no Cargo.toml can be read there; name the folder of the crate gaugefn-sdk")
        );
        for (manifest, reason) in [
            ("[package]\nname = 'serde'", "this is the crate 'serde'"),
            ("[workspace]", "this is no crate"),
            ("[", "its Cargo.toml is no TOML"),
        ] {
            fs::write(sdk.join("Cargo.toml"), manifest).unwrap();
            assert!(said(&sdk).message.contains(reason), "{manifest}: {:?}", said(&sdk));
        }
        fs::write(sdk.join("Cargo.toml"), "[package]\nname = 'gaugefn-sdk'").unwrap();
        let line: toml::Table = on_sdk(Some(&sdk), Path::new("/vm")).unwrap().parse().unwrap();
        assert_eq!(line["gaugefn-sdk"]["path"].as_str(), sdk.to_str());
    }
}
