//! When these variables count, and when other layers have the word.

use super::{BASE64, ENTRY, HANDLER, PERIOD, REQUIREMENTS, SINGLE, URL, WHICH, ZIP, alone, pair, toml, with_file};

/// Every variable of the default function.
fn every_name() -> Vec<&'static str> {
    let rows = [PERIOD, HANDLER, ZIP, BASE64, ENTRY, SINGLE, WHICH, URL, REQUIREMENTS];
    let mut names = vec!["REDIS_INPUT_KEY", "REDIS_OUTPUT_KEY", "PYFILE"];
    names.extend(rows.into_iter().flatten());
    names
}

#[test]
fn functions_of_the_config_file_leave_these_variables_out() {
    for name in every_name() {
        let result = with_file(&[(name, "1")], &mut toml("[functions.vm]\n"));
        assert_eq!(result.at("functions"), None, "{name}");
        let [warning] = &result.warnings[..] else { panic!("{name}: {:?}", result.warnings) };
        let start = format!("{name} is ignored: the functions are declared by ");
        assert!(warning.starts_with(&start) && warning.ends_with("gaugefn.toml"), "{warning}");
        assert_eq!(with_file(&[(name, "")], &mut toml("[functions.vm]\n")).warnings, [""; 0], "{name}");
    }
    let connection = with_file(&[("REDIS_HOST", "cache")], &mut toml("[functions.vm]\n"));
    assert_eq!(connection.at("redis.host"), pair("cache", "REDIS_HOST"));
    assert_eq!(connection.warnings, [""; 0]);
    let no_function = with_file(&[("REDIS_INPUT_KEY", "in")], &mut toml("[log]\nlevel = 'debug'\n"));
    assert_eq!(no_function.text("source.key").unwrap(), "in");
}

#[test]
fn functions_of_overriding_variables_leave_them_out_as_well() {
    let other = ("GAUGEFN__FUNCTIONS__VM__SOURCE__USE", "host");
    let result = alone(&[other, ("REDIS_INPUT_KEY", "in")]);
    assert_eq!(result.at("functions"), None);
    assert_eq!(
        result.warnings,
        ["REDIS_INPUT_KEY is ignored: the functions are declared by GAUGEFN__FUNCTIONS__VM__…"]
    );
    let empty = alone(&[("GAUGEFN__FUNCTIONS__VM__SOURCE__USE", ""), ("REDIS_INPUT_KEY", "in")]);
    assert_eq!(empty.text("source.key").unwrap(), "in");
    let default = alone(&[("GAUGEFN__FUNCTIONS__DEFAULT__SOURCE__USE", "host"), ("REDIS_OUTPUT_KEY", "out")]);
    assert_eq!(default.text("sinks.result.key").unwrap(), "out");
}

#[test]
fn overriding_sinks_and_executors_are_known() {
    let sink = "GAUGEFN__FUNCTIONS__DEFAULT__SINKS__STDOUT__USE";
    assert_eq!(alone(&[(sink, "stdout")]).warnings, [""; 0]);
    assert_eq!(alone(&[(sink, "")]).warnings.len(), 1);
    let executor = "GAUGEFN__functions__default__executor__USE";
    let producer = alone(&[(executor, "passthrough"), ("ZIP_TARGET_PATH", "/no/such.zip")]);
    assert_eq!((producer.text("loader.use"), producer.other_warnings().len()), (None, 0));
}
