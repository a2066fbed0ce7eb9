//! Config files that must be refused, and what must not.

use std::fmt::Write;
use std::fs;

use super::*;
use crate::config::tree::table;

fn written(name: &str, content: impl AsRef<[u8]>) -> Result<Value, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let shown = path.display().to_string();
    read(&path).map_err(|fault| {
        assert_eq!(fault.blame().exit_code(), 78, "{fault}");
        fault.to_string().replace(&shown, name)
    })
}

fn refusal(name: &str, content: impl AsRef<[u8]>) -> String {
    let said = written(name, content).err().unwrap_or_else(|| panic!("{name} is read"));
    assert!(!said.contains('\n'), "{said}");
    said
}

/// As JSON, so that trees of three formats can be compared.
fn json(value: &Value) -> serde_json::Value {
    match &value.kind {
        ValueKind::Table(table) => table.iter().map(|(key, value)| (key.clone(), json(value))).collect(),
        ValueKind::Array(list) => list.iter().map(json).collect(),
        ValueKind::Nil => serde_json::Value::Null,
        ValueKind::Boolean(it) => (*it).into(),
        ValueKind::I64(it) => (*it).into(),
        _ => value.to_string().into(),
    }
}

fn yaml(text: &str) -> serde_json::Value {
    json(&written("g.yaml", text).unwrap())
}

#[test]
fn a_key_that_is_there_twice_is_refused_in_every_format_and_at_every_level() {
    for (name, text, place) in [
        ("g.json", "{\"log\": {}, \"log\": {}}", "(line 1, column 17)"),
        ("g.json", "{\"functions\": {\"f\": {\n\"a\": 1,\n\"a\": 1}}}", "(line 3, column 3)"),
        ("g.json", "{\"l\": [1, {\"a\": {}, \"a\": {}}]}", "(line 1, column 23)"),
        ("g.json", r#"{"log": {}, "l\u006fg": {}}"#, "(line 1, column 22)"),
        ("g.yaml", "log: {}\nlog: {}\n", "(line 2, column 1)"),
        ("g.yaml", "functions:\n  f:\n    a: 1\n    'a': 1\n", "(line 4, column 5)"),
        ("g.yaml", "f: [{a: 1, a: 1}]\n", "(line 1, column 12)"),
        ("g.yaml", "f: {1: x, 0x1: y}\n", "(line 1, column 11)"),
        ("g.yaml", "f: {true: x, 'true': y}\n", "(line 1, column 14)"),
    ] {
        let said = refusal(name, text);
        assert!(said.starts_with(&format!("config file '{name}' has the key '")), "{said}");
        assert!(said.contains("' twice in one table: remove one of the two (line "), "{said}");
        assert!(said.ends_with(place), "{text}: {said}");
    }
    for text in ["[log]\na = 1\na = 2\n", "[log]\n[log]\n", "a.b = 1\n[a]\nb = 2\n", "a = {b = 1, b = 2}\n"] {
        let said = refusal("g.toml", text);
        assert!(
            said.starts_with("config file 'g.toml' cannot be parsed: ") && said.contains("duplicate key"),
            "{said}"
        );
        assert!(said.contains("line "), "{said}");
    }
}

#[test]
fn aliases_that_explode_are_refused_before_anything_is_built() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..20 {
        let below = vec![format!("*a{}", level - 1); 9].join(",");
        writeln!(bomb, "a{level}: &a{level} [{below}]").unwrap();
    }
    let said = refusal("g.yaml", &bomb);
    assert!(said.starts_with("config file 'g.yaml' stands for more than 50000 values"), "{said}");
    assert!(said.contains("(line "), "{said}");

    // the same by tables, and by merged ones
    let mut tables = "a0: &a0 {x: 1, y: 2, z: 3}\n".to_owned();
    for level in 1..20 {
        let below = level - 1;
        writeln!(tables, "a{level}: &a{level} {{p: *a{below}, q: *a{below}, r: *a{below}, <<: *a{below}}}").unwrap();
    }
    assert!(refusal("g.yml", &tables).contains("more than 50000 values"));

    // few values, and much text
    let long = "x".repeat(100_000);
    let repeated = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 200].join(", "));
    assert!(refusal("g.yaml", &repeated).contains("more than 8 MiB of text"));
    // an anchor inside of an anchor is copied once for each
    let anchors: String = (0..50).map(|level| format!("&a{level} [")).collect();
    assert!(refusal("g.yaml", format!("a: {anchors}{}{}\n", "x".repeat(400_000), "]".repeat(50))).contains("8 MiB"));

    assert!(refusal("g.yaml", "a: &a [1, *a]\n").contains("an alias inside of what it stands for"));
    assert!(refusal("g.yaml", "a: *b\n").contains("unknown anchor"));
}

#[test]
fn depth_is_limited_in_every_format() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
    for depth in [100, 10_000, 200_000] {
        for (name, text) in [
            ("g.json", format!("{{\"a\": {}}}", nested("[", "]", depth))),
            ("g.json", nested("{\"a\":", "}", depth.min(100_000))),
            ("g.json", format!("{{\"a\": {}", "[".repeat(depth))),
            ("g.yaml", format!("a: {}\n", nested("[", "]", depth))),
            ("g.yaml", format!("a: {}\n", nested("{a: ", "}", depth))),
            ("g.yaml", format!("a:\n  {}x\n", "- ".repeat(depth))),
            ("g.yaml", "? ".repeat(depth)),
            ("g.toml", format!("a = {}\n", nested("[", "]", depth))),
            ("g.toml", format!("a = {}\n", nested("{a=", "}", depth))),
            ("g.toml", format!("{}x = 1\n", "a.".repeat(depth))),
            ("g.toml", format!("[{}x]\n", "a.".repeat(depth))),
        ] {
            let said = refusal(name, &text);
            assert!(said.len() < 300, "{said}");
            assert!(
                ["more than 64 deep", "recurs", "more than 50000 values", "in the place of a key"]
                    .iter()
                    .any(|part| said.contains(part)),
                "{name}, {depth} deep: {said}"
            );
        }
    }
    assert!(written("g.json", format!("{{\"a\": {}}}", nested("[", "]", 40))).is_ok());
    assert!(written("g.yaml", format!("a: {}\n", nested("[", "]", 40))).is_ok());
    assert!(written("g.toml", format!("a = {}\n", nested("[", "]", 40))).is_ok());
}

#[test]
fn size_and_number_of_values_are_limited() {
    let large = " ".repeat(2 << 20);
    for name in ["g.toml", "g.yaml", "g.json"] {
        assert_eq!(
            refusal(name, &large),
            format!("config file '{name}' is larger than 1 MiB; name files of the function by their paths instead")
        );
    }
    let list = vec!["0"; 60_000].join(",");
    for (name, text) in [
        ("g.json", format!("{{\"a\": [{list}]}}")),
        ("g.yaml", format!("a: [{list}]\n")),
        ("g.toml", format!("a = [{list}]\n")),
    ] {
        assert!(refusal(name, text).contains("stands for more than 50000 values"));
    }
    // a parser that quotes a value quotes its beginning
    assert!(refusal("g.yaml", "x".repeat(1_000_000)).chars().count() < 300);
    // a function's source, as an option
    let source = "x = [1, 2, 3]\\n".repeat(5_000);
    assert!(written("g.toml", format!("source = \"{source}\"\n")).is_ok());
}

#[test]
fn a_key_with_a_dot_is_one_key_and_no_path() {
    for (name, text) in [("g.json", r#"{"a[900000000]": 1, "b.c": 2}"#), ("g.yaml", "'a[900000000]': 1\nb.c: 2\n")] {
        let tree = written(name, text).unwrap();
        let keys: Vec<_> = table(&tree).unwrap().keys().cloned().collect();
        assert_eq!(keys, ["a[900000000]", "b.c"]);
    }
}

#[test]
fn anchors_and_merged_tables_work() {
    assert_eq!(
        yaml("a: &a {x: 1, y: {z: 2}}\nb: *a\nc: {<<: *a, y: 3}\nd: {<<: [{x: 7}, *a]}\n"),
        serde_json::json!({
            "a": {"x": 1, "y": {"z": 2}}, "b": {"x": 1, "y": {"z": 2}}, "c": {"x": 1, "y": 3},
            "d": {"x": 7, "y": {"z": 2}},
        })
    );
    assert!(refusal("g.yaml", "a: {<<: 5}\n").contains("has a '<<' of 'a' that is no table"));
}

#[test]
fn yaml_is_taken_by_its_newer_rules_and_nothing_else_becomes_of_it() {
    assert_eq!(
        yaml(
            "%YAML 1.2\n---\n# comment\na: no\nb: on\nc: true\nd: 0777\ne: 0o17\nf: !!str 5\ng: |\n  two\n  lines\n1: x\n...\n"
        ),
        serde_json::json!({
            "a": "no", "b": "on", "c": true, "d": 777, "e": 15, "f": "5", "g": "two\nlines\n", "1": "x",
        })
    );
    for (text, part) in [
        ("a: 1\n---\nb: 2\n", "has several documents: a configuration is one"),
        ("{a: 1}: 2\n", "a table or list in the place of a key"),
        ("[a]: 2\n", "a table or list in the place of a key"),
        ("~: 2\n", "nothing, or an alias, in the place of a key"),
        ("a: .nan\n", "a number that is none, such as .nan or .inf"),
    ] {
        let said = refusal("g.yaml", text);
        assert!(said.contains(part) && said.contains("(line "), "{text}: {said}");
    }
    assert_eq!(yaml(""), serde_json::json!({}));
    assert_eq!(yaml("# nothing\n"), serde_json::json!({}));
}

#[test]
fn a_mark_in_front_is_no_text_and_other_encodings_are_named() {
    for (name, text) in [("g.json", "{\"a\": 1}"), ("g.yaml", "a: 1\n"), ("g.toml", "a = 1\n"), ("g.toml", "a = 1\r\n")]
    {
        assert_eq!(json(&written(name, format!("\u{feff}{text}")).unwrap()), serde_json::json!({"a": 1}), "{name}");
        for bytes in [
            text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
            [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect(),
        ] {
            assert_eq!(
                refusal(name, bytes),
                format!("config file '{name}' is UTF-16 text or none at all; save it as UTF-8")
            );
        }
        assert!(refusal(name, b"a: \xe4").contains("is not UTF-8 text; save it so"));
    }
}
