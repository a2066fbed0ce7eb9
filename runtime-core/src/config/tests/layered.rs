//! Files of three formats, and variables over them.

use super::super::settings::FunctionSettings;
use super::*;

const YAML: &str = "
log:
admin: ~
functions:
  vm:
    handler: null
    source: { use: ticker, every: 2.5, hosts: [a, b] }
    loader:
      use: text
      path: f.py
    executor:
    state: null
    errors: { retries: 1 }
    sinks:
      paper:
nothing:
";

const JSON: &str = r#"{"log": null, "admin": null, "functions": {"vm": {"handler": null,
    "source": {"use": "ticker", "every": 2.5, "hosts": ["a", "b"]}, "loader": {"use": "text", "path": "f.py"},
    "executor": null, "state": null, "errors": {"retries": 1}, "sinks": {"paper": null}}}, "nothing": null}"#;

const TOML: &str = "
[functions.vm]
source = { use = 'ticker', every = 2.5, hosts = ['a', 'b'] }
loader = { use = 'text', path = 'f.py' }
errors.retries = 1
[functions.vm.sinks.paper]
";

#[test]
fn the_three_formats_say_the_same() {
    for (name, text) in [("g.yaml", YAML), ("g.yml", YAML), ("g.json", JSON), ("g.toml", TOML)] {
        let settings = settings(&file(name, text));
        let vm = &settings.functions[0];
        let shown = |key: &str| vm.source.section.get(key).unwrap().to_string();
        assert_eq!((shown("every").as_str(), vm.errors.retries, vm.options.handler.as_str()), ("2.5", 1, "handler"));
        assert_eq!(vm.source.section.get("hosts").unwrap().clone().into_array().unwrap().len(), 2, "{name}");
        assert_eq!((vm.executor.entry.name, vm.state.entry.name, vm.sinks.len()), ("python", "memory", 1), "{name}");
    }
}

#[test]
fn nothing_at_all_counts_as_absent() {
    assert_eq!(
        problems_of(&file("g.yaml", "functions:\n  vm:\n    source:\n    loader: { use: text, path: }\n")),
        [
            "functions.vm.loader.path: missing; it has no default",
            "functions.vm.source: missing; name where events come from: use = \"redis_key\"",
        ]
    );
    let found = problems_of(&file("g.yaml", "functions:\n  vm:\n"));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_variable_wins_over_the_file_and_is_converted() {
    let tree = layered(
        "g.toml",
        TOML,
        &[
            ("GAUGEFN__FUNCTIONS__VM__SOURCE__HOSTS", "c, d ,e"),
            ("GAUGEFN__FUNCTIONS__VM__SOURCE__EVERY", "250ms"),
            ("GAUGEFN__FUNCTIONS__VM__ERRORS__RETRIES", "7"),
            ("GAUGEFN__FUNCTIONS__VM__HANDLER", ""),
            ("GAUGEFN__LINK__URL", "5"),
        ],
    );
    let settings = settings(&tree);
    let vm = &settings.functions[0];
    assert_eq!(vm.errors.retries, 7);
    assert_eq!(vm.options.handler, "handler");
    let hosts = vm.source.section.get("hosts").unwrap();
    assert_eq!(
        (hosts.to_string().as_str(), hosts.origin()),
        ("c, d ,e", Some("GAUGEFN__FUNCTIONS__VM__SOURCE__HOSTS"))
    );
}

#[test]
fn the_whole_tree_can_be_composed_of_variables() {
    let tree = layered(
        "g.json",
        "{}",
        &[
            ("GAUGEFN__FUNCTIONS__V_M__SOURCE__USE", "ticker"),
            ("GAUGEFN__FUNCTIONS__V_M__EXECUTOR__USE", "bare"),
            ("GAUGEFN__FUNCTIONS__V_M__SINKS__PAPER__SHEETS", "2"),
            ("GAUGEFN__functions__v_m__drain", "1m"),
        ],
    );
    let settings = settings(&tree);
    let vm = &settings.functions[0];
    assert_eq!(
        (vm.name.as_str(), vm.sinks[0].0.as_str(), vm.options.drain.to_string().as_str()),
        ("v_m", "paper", "1m")
    );
}

#[test]
fn a_variable_with_another_component_drops_the_options_of_the_first() {
    let text = format!("{TOML}sheets = 5\n");
    let set =
        [("GAUGEFN__FUNCTIONS__VM__EXECUTOR__USE", "bare"), ("GAUGEFN__FUNCTIONS__VM__SINKS__PAPER__USE", "nats")];
    let tree = layered("g.toml", &text, &set);
    assert_eq!(
        problems_of(&tree),
        ["functions.vm.sinks.paper.use: sink 'nats' is not available in this version \
          (from GAUGEFN__FUNCTIONS__VM__SINKS__PAPER__USE)"]
    );
}

#[test]
fn what_a_table_is_about_without_saying_so_counts_as_its_component() {
    // the executor is 'python', and the sink is what its label says
    let text =
        "[functions.vm]\nsource = { use = 'ticker' }\nexecutor = { loud = true }\nsinks.paper = { sheets = 5 }\n";
    let bare = ("GAUGEFN__FUNCTIONS__VM__EXECUTOR__USE", "bare");
    let vm = |set: &[(&str, &str)]| settings(&layered("g.toml", text, set)).functions.remove(0);
    let sheets = |vm: &FunctionSettings| vm.sinks[0].1.section.get("sheets").map(ToString::to_string);
    let kept = vm(&[bare, ("GAUGEFN__FUNCTIONS__VM__SINKS__PAPER__USE", "paper")]);
    assert_eq!((kept.executor.entry.name, sheets(&kept).as_deref()), ("bare", Some("5")));
    assert!(kept.executor.section.get("loud").is_none());
    let other = ("GAUGEFN__FUNCTIONS__VM__SINKS__PAPER__USE", "nats");
    assert_eq!(
        problems_of(&layered("g.toml", text, &[bare, other])),
        ["functions.vm.sinks.paper.use: sink 'nats' is not available in this version \
          (from GAUGEFN__FUNCTIONS__VM__SINKS__PAPER__USE)"]
    );
    // a label that names no component is no `use`: the variable completes the table
    let text = text.replace("sinks.paper", "sinks.result");
    let whole = settings(&layered("g.toml", &text, &[bare, ("GAUGEFN__FUNCTIONS__VM__SINKS__RESULT__USE", "paper")]));
    assert_eq!(sheets(&whole.functions[0]).as_deref(), Some("5"));
}

#[test]
fn text_where_a_table_belongs_names_its_variable() {
    let wrong = |name: &str, value: &str| problems_of(&layered("g.toml", TOML, &[(name, value)])).join("\n");
    assert_eq!(wrong("GAUGEFN__LOG", "x"), "log: invalid type: string \"x\", expected a table (from GAUGEFN__LOG)");
    assert_eq!(
        wrong("GAUGEFN__FUNCTIONS", "x"),
        "functions: invalid type: string \"x\", expected a table (from GAUGEFN__FUNCTIONS)"
    );
    assert_eq!(
        wrong("GAUGEFN__FUNCTIONS__VM__SOURCE", "ticker"),
        "functions.vm.source: invalid type: string \"ticker\", expected a table; write [functions.vm.source] and use = \"ticker\" \
         below it (from GAUGEFN__FUNCTIONS__VM__SOURCE)"
    );
    assert_eq!(
        wrong("GAUGEFN__FUNCTIONS__VM__SINKS__PAPER__SHEETS", "many"),
        "functions.vm.sinks.paper.sheets: invalid value: string \"many\", expected a whole number, 0 or more \
         (from GAUGEFN__FUNCTIONS__VM__SINKS__PAPER__SHEETS)"
    );
    assert_eq!(
        wrong("GAUGEFN__FUNCTIONS__VM__SOURCE__HOSTS__0", "x"),
        "functions.vm.source.hosts: invalid type: map, expected a list (from GAUGEFN__FUNCTIONS__VM__SOURCE__HOSTS__0)"
    );
    assert_eq!(
        wrong("GAUGEFN__LOGG__LEVEL", "x"),
        "logg: unknown key, did you mean 'log'? (from GAUGEFN__LOGG__LEVEL)"
    );
}

#[test]
fn variables_that_contradict_each_other_are_refused() {
    let complaints = |names: &[&str]| {
        let set: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        let (_, problems) = layers::overrides(&set, &file("g.toml", TOML));
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        complaints(&["GAUGEFN__LOG", "GAUGEFN__LOG__LEVEL"]),
        "GAUGEFN__LOG__LEVEL: contradicts GAUGEFN__LOG; one of them has to go"
    );
    assert_eq!(
        complaints(&["GAUGEFN__LOG__LEVEL", "GAUGEFN__log__level"]),
        "GAUGEFN__log__level: contradicts GAUGEFN__LOG__LEVEL; one of them has to go"
    );
    assert_eq!(
        complaints(&["GAUGEFN__LOG__LEVEL", "GAUGEFN__log"]),
        "GAUGEFN__log: contradicts GAUGEFN__LOG__LEVEL; one of them has to go"
    );
    for name in ["GAUGEFN__", "GAUGEFN____LOG", "GAUGEFN__LOG__"] {
        assert_eq!(complaints(&[name]), format!("{name}: no path of the configuration; write GAUGEFN__A__B for a.b"));
    }
    assert_eq!(complaints(&["GAUGEFN__LOG__LEVEL", "GAUGEFN__LOG__FORMAT", "GAUGEFN_CONFIG"]), "");
}
