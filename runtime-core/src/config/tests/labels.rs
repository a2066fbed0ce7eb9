//! Tables, labels, and what may be left out.

use super::*;
use crate::config::settings::{Isolation, LogFormat, Then};
use crate::options::Span;

#[test]
fn what_is_left_out_has_its_default() {
    let settings = read(VM);
    assert_eq!((settings.log.level.as_str(), settings.log.format), ("info", LogFormat::Text));
    assert_eq!(settings.admin.listen, None);
    assert_eq!(settings.shared.len(), 1);
    let [vm] = settings.functions.as_slice() else { panic!("one function") };
    assert_eq!((vm.name.as_str(), vm.options.handler.as_str()), ("vm", "handler"));
    assert_eq!((vm.options.timeout, vm.options.drain, vm.options.workers), (Span::seconds(0), Span::seconds(25), 1));
    assert_eq!(vm.options.isolation, Isolation::Process);
    assert_eq!((vm.errors.retries, vm.errors.backoff, vm.errors.then), (0, Span::millis(200), Then::Skip));
    assert_eq!((vm.executor.entry.name, vm.state.entry.name), ("python", "memory"));
    assert!(vm.sinks.is_empty());
}

#[test]
fn everything_that_is_written_arrives() {
    let settings = read(
        "[log]\nlevel = 'debug'\nformat = 'json'\n[admin]\nlisten = '127.0.0.1:1'\n[link]\nurl = 'x'\n\
         [functions.vm]\nhandler = ' m.f '\ndrain = '1m'\ntimeout = 0\nworkers = 1\nisolation = 'inline'\n\
         source = { use = 'ticker', every = 2 }\nexecutor.use = 'bare'\nstate.use = 'memory'\n\
         errors = { retries = 2, backoff = '1s', then = 'stop' }\n\
         [functions.vm.sinks]\nfirst = { use = 'paper', sheets = 3 }\npaper = {}\n",
    );
    assert_eq!((settings.log.level.as_str(), settings.log.format), ("debug", LogFormat::Json));
    assert_eq!(settings.admin.listen.unwrap().port(), 1);
    let vm = &settings.functions[0];
    assert_eq!((vm.options.handler.as_str(), vm.options.drain), ("m.f", Span::seconds(60)));
    assert_eq!((vm.errors.retries, vm.errors.backoff, vm.errors.then), (2, Span::seconds(1), Then::Stop));
    assert_eq!(vm.executor.entry.name, "bare");
    assert!(vm.loader.is_none() && vm.source.section.get("use").is_none());
    let sinks: Vec<_> = vm.sinks.iter().map(|(label, choice)| (label.as_str(), choice.entry.name)).collect();
    assert_eq!(sinks, [("first", "paper"), ("paper", "paper")]);
}

#[test]
fn labels_are_lower_case_words() {
    let rule = "a label starts with a lower-case letter and goes on with those, digits, '_' and '-'";
    for label in ["Vm", "1vm", "_vm", "v.m", "vm!", "", "ü"] {
        let found = problems(&VM.replace("functions.vm", &format!("functions.'{label}'")));
        assert_eq!(found, [format!("functions.{label}: {rule}")]);
    }
    let found = problems(&format!("{VM}[functions.vm.sinks.Out]\nuse = 'paper'\n"));
    assert_eq!(found, [format!("functions.vm.sinks.Out: {rule}")]);
    read(&VM.replace("functions.vm", "functions.v-m_2"));
}

#[test]
fn without_functions_there_is_nothing_to_do() {
    let wanted = ["functions: missing; write a table [functions.NAME] for each function"];
    assert_eq!(problems(""), wanted);
    assert_eq!(problems("[functions]\n"), wanted);
    assert_eq!(problems_of(&file("g.yaml", "functions:\n")), wanted);
}

#[test]
fn a_function_needs_a_source_and_code() {
    assert_eq!(
        problems("[functions.vm]\n"),
        [
            "functions.vm.loader: missing; name where the function's code is: use = \"file\"",
            "functions.vm.source: missing; name where events come from: use = \"redis_key\"",
        ]
    );
    assert_eq!(
        problems("[functions.vm]\nsource = {}\nexecutor = { use = 'bare' }\n"),
        ["functions.vm.source.use: missing; name the source: available are file, newest, redis_queue, ticker"]
    );
}

#[test]
fn a_sinks_label_may_name_its_component() {
    let settings = read(&format!("{VM}[functions.vm.sinks.paper]\nsheets = 2\n"));
    assert_eq!(settings.functions[0].sinks[0].1.entry.name, "paper");
    assert_eq!(
        problems(&format!("{VM}[functions.vm.sinks.result]\nsheets = 2\n")),
        ["functions.vm.sinks.result.use: missing; name the sink: available are paper, redis_set"]
    );
    // another component may have the name of one as its label
    assert_eq!(
        problems(&format!("{VM}[functions.vm.sinks.paper]\nuse = 'papr'\n")),
        ["functions.vm.sinks.paper.use: unknown sink 'papr', did you mean 'paper'?"]
    );
}

#[test]
fn slips_get_a_suggestion_at_every_level() {
    let text = "lgo = 1\nxyzzy = 2\nlnik = 3\n[log]\nlevl = 'x'\n[link]\nulr = 'x'\n[functions.vm]\nhandlr = 'h'\nsinsk = {}\n\
                source = { use = 'tikcer' }\nloader = { use = 'text', path = 'f', pth = 'f' }\nerrors.retry = 1\n\
                executor = { use = 'bare', x = 1 }\n";
    assert_eq!(
        problems(text),
        [
            "functions.vm.errors.retry: unknown key, known are retries, backoff, then",
            "functions.vm.executor.x: unknown key, there are no options here",
            "functions.vm.handlr: unknown key, did you mean 'handler'?",
            "functions.vm.loader.pth: unknown key, did you mean 'path'?",
            "functions.vm.sinsk: unknown key, did you mean 'sinks'?",
            "functions.vm.source.use: unknown source 'tikcer', did you mean 'ticker'?",
            "lgo: unknown key, did you mean 'log'?",
            "link.ulr: unknown key, did you mean 'url'?",
            "lnik: unknown key, did you mean 'link'?",
            "log.levl: unknown key, did you mean 'level'?",
            "xyzzy: unknown key, known are admin, functions, log, link",
        ]
    );
}

#[test]
fn something_else_in_the_place_of_a_table_is_named_once() {
    let wrong = |text: &str| problems(text).join("\n");
    assert_eq!(wrong("functions = 5\n"), "functions: invalid type: integer `5`, expected a table");
    assert_eq!(wrong("functions.vm = ['a']\n"), "functions.vm: invalid type: list, expected a table");
    let with = |part: &str| wrong(&format!("{VM}{part}\n"));
    assert_eq!(with("sinks = true"), "functions.vm.sinks: invalid type: boolean `true`, expected a table");
    assert_eq!(
        with("sinks.paper = 1.5"),
        "functions.vm.sinks.paper: invalid type: floating point `1.5`, expected a table"
    );
    assert_eq!(
        with("state = 'memory'"),
        "functions.vm.state: invalid type: string \"memory\", expected a table; write [functions.vm.state] and use = \"memory\" below it"
    );
    assert_eq!(with("errors = 3"), "functions.vm.errors: invalid type: integer `3`, expected a table");
    assert_eq!(
        with("executor.use = 5"),
        "functions.vm.executor.use: invalid type: integer `5`, expected a component's name"
    );
    assert_eq!(wrong(&format!("log = 'x'\n{VM}")), "log: invalid type: string \"x\", expected a table");
    assert_eq!(wrong(&format!("link = 'x'\n{VM}")), "link: invalid type: string \"x\", expected a table");
}

#[test]
fn a_misspelt_component_as_a_label_is_recognised() {
    assert_eq!(
        problems(&format!("{VM}[functions.vm.sinks.papre]\n")),
        [
            "functions.vm.sinks.papre.use: missing; name the sink: available are paper, redis_set; did you mean the label 'paper'?"
        ]
    );
}
