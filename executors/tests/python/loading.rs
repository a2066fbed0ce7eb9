//! Files, names, packages, and how a function that cannot be loaded is refused.

use std::fs;

use runtime_core::contract::Blame;

use super::bed::{Bed, running};

const NAMES: &str = "def handler(data, ctx):\n    return [__name__, __file__.rsplit('/', 1)[1], __package__]\n";

#[tokio::test]
async fn the_single_file_is_imported_as_usermodule() {
    let (bed, mut f) = running(&format!(
        "import sys\n{NAMES}
if __name__ == '__main__':
    raise SystemExit('must not run')
assert sys.argv == [''], sys.argv
assert sys.path[0] == __file__.rsplit('/', 1)[0]
assert sys.path.count(sys.path[0]) == 1
assert sys.modules['usermodule'].__dict__ is globals()
"
    ))
    .await;
    assert_eq!(f.output("0").await, r#"["usermodule", "usermodule.py", ""]"#);
    // nothing of ours stays in the function's folder
    assert_eq!(fs::read_dir(bed.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn byte_order_mark_and_crlf_are_read() {
    let text = "\u{feff}# -*- coding: utf-8 -*-\r\ndef handler(data, ctx):\r\n    return 'ü' + '''a\r\nb'''\r\n";
    let (_bed, mut f) = running(text).await;
    assert_eq!(f.output("0").await, r#""\u00fca\nb""#);
}

#[tokio::test]
async fn a_file_without_py_is_loaded_by_its_path() {
    let bed = Bed::new().with("usermodule", NAMES);
    let mut f = bed.load("usermodule", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"["usermodule", "usermodule", ""]"#);
}

#[tokio::test]
async fn a_name_that_is_no_identifier_is_loaded_by_its_path() {
    let text =
        format!("from dataclasses import dataclass\nimport helper\n@dataclass\nclass A:\n    n: int = 1\n{NAMES}");
    let bed = Bed::new().with("my-function.v2.py", text).with("helper.py", "");
    let mut f = bed.load("my-function.v2.py", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"["my_function_v2", "my-function.v2.py", ""]"#);
}

#[tokio::test]
async fn a_file_named_like_a_module_in_use_is_loaded_all_the_same() {
    let bed = Bed::new().with("json.py", format!("import json\nassert json.dumps\n{NAMES}"));
    let mut f = bed.load("json.py", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"["json_", "json.py", ""]"#);
}

#[tokio::test]
async fn an_entry_in_a_package_imports_relatively_absolutely_and_beside_itself() {
    let text = format!(
        "from . import near\nfrom ..top import far\nfrom app.top import far as again\nimport near as beside\n{NAMES}"
    );
    let bed = Bed::new()
        .with("app/sub/main.py", text)
        .with("app/sub/near.py", "")
        .with("app/top.py", "far = 1\n")
        .with("__MACOSX/._main.py", b"\0\x05");
    let mut f = bed.load("app/sub/main.py", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"["app.sub.main", "main.py", "app.sub"]"#);
}

#[tokio::test]
async fn a_hyphenated_folder_is_a_root_of_its_own() {
    let bed = Bed::new()
        .with("my-function/pkg/main.py", format!("from .near import n\nimport pkg.near\nimport top\n{NAMES}"))
        .with("my-function/pkg/near.py", "n = 1\n")
        .with("my-function/top.py", "");
    let mut f = bed.load("my-function/pkg/main.py", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"["pkg.main", "main.py", "pkg"]"#);
}

#[tokio::test]
async fn a_folder_without_init_named_like_a_library_does_not_hide_the_entry() {
    let bed = Bed::new().with("code/main.py", format!("import near\n{NAMES}")).with("code/near.py", "");
    let mut f = bed.load("code/main.py", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"["main", "main.py", ""]"#);
}

#[tokio::test]
async fn the_module_may_stand_before_the_handler() {
    let bed = Bed::new().with("app/main.py", "def go(data, ctx):\n    return 'main'\n");
    let mut f = bed.load("app/main.py", "main.go").await.unwrap();
    assert_eq!(f.output("0").await, "\"main\"");
}

#[tokio::test]
async fn a_static_method_can_be_the_handler() {
    let text = "class Mine:\n    @staticmethod\n    def go(data, ctx):\n        return 'class'\n";
    let bed = Bed::new().with("main.py", text);
    let mut f = bed.load("main.py", "Mine.go").await.unwrap();
    assert_eq!(f.output("0").await, "\"class\"");
}

#[tokio::test]
async fn another_module_beside_the_file_can_have_the_handler() {
    let bed =
        Bed::new().with("main.py", "import threading\n").with("other.py", "def go(data, ctx):\n    return 'other'\n");
    let mut f = bed.load("main.py", "other.go").await.unwrap();
    assert_eq!(f.output("0").await, "\"other\"");
}

#[tokio::test]
async fn anything_that_takes_two_arguments_is_called() {
    let (_bed, mut f) = running(
        "import functools
def wrap(f):
    @functools.wraps(f)
    def inner(*args, **kw):
        return f(args[0])
    return inner
@wrap
def one(event): return ['one', event]
class Callable:
    def __call__(self, metrics, environment, extra=3): return ['object', metrics, extra]
def many(*args): return ['many', len(args)]
def swapped(context, input): return ['swapped', context]
handlers = [one, Callable(), many, swapped, functools.partial(lambda a, b, c: [a, b], 'partial'), Callable]
def handler(data, ctx): return handlers[data](data, ctx)
",
    )
    .await;
    assert_eq!(f.output("0").await, r#"["one", 0]"#);
    assert_eq!(f.output("1").await, r#"["object", 1, 3]"#);
    assert_eq!(f.output("2").await, r#"["many", 2]"#);
    assert_eq!(f.output("3").await, r#"["swapped", 3]"#);
    assert_eq!(f.output("4").await, r#"["partial", 4]"#);
}

#[tokio::test]
async fn a_decorated_entry_function_is_judged_by_its_wrapper() {
    let (_bed, mut f) = running(
        "import functools
def wrap(f):
    @functools.wraps(f)
    def inner(data, ctx):
        return f(data)
    return inner
@wrap
def handler(event): return ['wrapped', event]
",
    )
    .await;
    assert_eq!(f.output("0").await, r#"["wrapped", 0]"#);
}

#[tokio::test]
async fn a_callable_object_is_an_entry_function() {
    let (_bed, mut f) =
        running("class H:\n    def __call__(self, a, b):\n        return 'object'\nhandler = H()\n").await;
    assert_eq!(f.output("0").await, "\"object\"");
}

#[tokio::test]
async fn a_syntax_error_has_file_line_and_form() {
    let bed = Bed::new().with("usermodule.py", "x = 1\ndef handler(input, context)\n    return 1\n");
    let fault = bed.refusal("usermodule.py", "handler").await;
    assert_eq!(fault.blame(), Blame::Function);
    let file = bed.path().join("usermodule.py");
    let text = fault.to_string();
    assert!(text.starts_with(&format!("{}:2: SyntaxError: expected ':'; correct it: ", file.display())), "{text}");
    assert!(text.ends_with("is wanted, with 'def handler(input, context)'"), "{text}");
    assert!(fault.report().unwrap().contains("def handler(input, context)\n"), "{:?}", fault.report());
}

#[tokio::test]
async fn a_syntax_error_in_a_helper_names_the_helper() {
    let bed = Bed::new().with("usermodule.py", "import helper\n").with("helper.py", "x = (\n");
    let text = bed.refusal("usermodule.py", "handler").await.to_string();
    assert!(text.contains("helper.py:1: SyntaxError: '(' was never closed"), "{text}");
    assert!(text.contains("usermodule.py:1 in <module>"), "{text}");
}

#[tokio::test]
async fn a_missing_package_is_named_with_the_remedy() {
    let bed = Bed::new().with("usermodule.py", "import os\nimport not_there.part\n");
    let fault = bed.refusal("usermodule.py", "handler").await;
    let file = bed.path().join("usermodule.py");
    assert_eq!(
        fault.to_string(),
        format!(
            "importing {0} failed: ModuleNotFoundError: No module named 'not_there' ({0}:2 in <module>); \
             install 'not_there' (option requirements or venv) or put it beside the file",
            file.display()
        )
    );
    let report = fault.report().unwrap();
    assert!(!report.contains("importlib") && report.matches("  File ").count() == 1, "{report}");
}

#[tokio::test]
async fn an_import_that_raises_or_ends_is_refused() {
    let bed =
        Bed::new().with("raises.py", "def handler(a, b): pass\n1 / 0\n").with("ends.py", "import sys\nsys.exit(2)\n");
    let text = bed.refusal("raises.py", "handler").await.to_string();
    assert!(
        text.contains("ZeroDivisionError: division by zero (") && text.contains("raises.py:2 in <module>"),
        "{text}"
    );
    let text = bed.refusal("ends.py", "handler").await.to_string();
    assert!(text.contains("SystemExit: 2") && text.contains("__main__"), "{text}");
}

#[tokio::test]
async fn a_missing_entry_function_is_named_with_a_suggestion() {
    let bed = Bed::new()
        .with("main.py", "from os import getcwd\ndef handle(input, context): pass\ndef other(): pass\nx = 1\n")
        .with("none.py", "x = 1\n");
    let file = bed.path().join("main.py");
    assert_eq!(
        bed.refusal("main.py", "handler").await.to_string(),
        format!(
            "{} has no function 'handler', only handle, other; did you mean 'handle'? \
             wanted: def handler(input, context)",
            file.display()
        )
    );
    let text = bed.refusal("none.py", "handler").await.to_string();
    assert!(text.contains("has no function 'handler', and no other one; wanted: def"), "{text}");
    let text = bed.refusal("main.py", "nowhere.handler").await.to_string();
    assert!(text.starts_with("'nowhere.handler' names a module 'nowhere' that is not there"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_called_with_two_arguments_is_refused() {
    let bed = Bed::new()
        .with("value.py", "handler = {'a': 1}\n")
        .with("one.py", "\ndef handler(event):\n    pass\n")
        .with("keyword.py", "def handler(a, b, *, c):\n    pass\n");
    let text = bed.refusal("value.py", "handler").await.to_string();
    assert!(text.contains("is of type dict and cannot be called; wanted: def handler(input, context)"), "{text}");
    let text = bed.refusal("one.py", "handler").await.to_string();
    assert!(text.contains("one.py:2: 'handler(event)' cannot take two arguments"), "{text}");
    assert!(text.ends_with("wanted: def handler(input, context)"), "{text}");
    let text = bed.refusal("keyword.py", "handler").await.to_string();
    assert!(text.contains("handler(a, b, *, c)"), "{text}");
}

#[tokio::test]
async fn a_second_function_is_refused() {
    let (mut bed, _f) = running(NAMES).await;
    bed.label = "other";
    let fault = bed.refusal("usermodule.py", "handler").await;
    assert_eq!(fault.blame(), Blame::Config);
    assert!(fault.to_string().contains("only one Python function runs inside one process"), "{fault}");
}

#[tokio::test]
async fn a_newer_version_is_loaded_beside_the_one_that_runs() {
    let (bed, mut old) =
        running("n = 1\ndef handler(data, ctx):\n    import usermodule\n    return [n, usermodule.n]\n").await;
    fs::write(
        bed.path().join("usermodule.py"),
        "n = 2\ndef handler(data, ctx):\n    import usermodule\n    return [n, usermodule.n]\n",
    )
    .unwrap();
    let mut new = bed.load("usermodule.py", "handler").await.unwrap();
    // until it takes over, imports mean the old one's modules
    assert_eq!(old.output("0").await, "[1, 1]");
    let legacy = old.function.hand_over().await.unwrap();
    new.function.take_over(Some(legacy)).await.unwrap();
    assert_eq!(new.output("0").await, "[2, 2]");
    fs::write(bed.path().join("usermodule.py"), "raise ValueError('no')\n").unwrap();
    let fault = bed.refusal("usermodule.py", "handler").await;
    assert!(fault.to_string().contains("ValueError: no"), "{fault}");
    assert_eq!(new.output("0").await, "[2, 2]");
}

#[tokio::test]
async fn configured_folders_come_after_the_functions_own() {
    let library = tempfile::tempdir().unwrap();
    fs::write(library.path().join("extra.py"), "n = 'library'\n").unwrap();
    fs::write(library.path().join("near.py"), "n = 'library'\n").unwrap();
    let path = vec![config::Value::new(None, library.path().to_str().unwrap())];
    let bed = Bed::new()
        .option("path", path)
        .with("usermodule.py", "import extra, near\ndef handler(data, ctx):\n    return [extra.n, near.n]\n")
        .with("near.py", "n = 'own'\n");
    let mut f = bed.load("usermodule.py", "handler").await.unwrap();
    assert_eq!(f.output("0").await, r#"["library", "own"]"#);
}
