//! Metrics of functions: whatever they say, the page is one that Prometheus' own parser reads.

use super::*;
use crate::support::bed::{Bed, Vm};
use crate::support::project;
use crate::support::python;

/// One sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// The page of metrics, read by `tests/reference/metrics_page.py`.
fn page(vm: &mut Vm) -> Vec<Sample> {
    let (status, text) = vm.admin.get("/metrics").unwrap();
    assert_eq!(status, 200);
    let mut reader = std::process::Command::new(python::python())
        .arg(project("tests/reference/metrics_page.py"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = reader.stdin.take().unwrap();
    let sent = text.clone();
    let feeding = std::thread::spawn(move || input.write_all(sent.as_bytes()).unwrap());
    let output = reader.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let samples = String::from_utf8(output.stdout).unwrap();
    let sample = |line: &str| -> Sample {
        let (name, labels, value): (String, BTreeMap<String, String>, String) = serde_json::from_str(line).unwrap();
        (name, labels, value.parse().unwrap())
    };
    samples.lines().map(sample).collect()
}

/// The values of a function's own metric, by its labels without that of the function.
fn values(page: &[Sample], function: &str, name: &str) -> Vec<(Vec<(String, String)>, f64)> {
    let name = format!("gaugefn_function_{name}");
    // the parser gives every counter the ending that it should have
    let is_named = |found: &str| found.strip_suffix("_total").unwrap_or(found) == name;
    let own = page.iter().filter(|(found, labels, _)| is_named(found) && labels["function"] == function);
    let rest = |labels: &BTreeMap<String, String>| {
        labels.iter().filter(|(label, _)| *label != "function").map(|(l, t)| (l.clone(), t.clone())).collect()
    };
    own.map(|(_, labels, value)| (rest(labels), *value)).collect()
}

/// Functions of one file, each called once by its own events.
fn functions(code: &str, isolation: &str, labels: &[(&str, &str)]) -> Vm {
    let mut bed = Bed::bare(code);
    for (label, events) in labels {
        let pipe = bed.folder.path().join(format!("{label}.events"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        bed = bed.more(&format!(
            "[functions.{label}]\nhandler = \"{label}\"\nisolation = \"{isolation}\"\n\
             loader = {{ use = \"file\", path = \"usermodule.py\" }}\nexecutor = {{ use = \"python\" }}\n\
             source = {{ use = \"file\", path = \"{label}.events\" }}\nsinks.file = {{ path = \"{label}.results\" }}\n"
        ));
        let events = (*events).to_owned();
        std::thread::spawn(move || {
            let mut open = std::fs::File::options().write(true).open(pipe).unwrap();
            open.write_all(events.as_bytes()).unwrap();
            // the process goes on, and its page with it, as long as there may be more
            std::thread::sleep(Duration::from_secs(600));
        });
    }
    bed.start()
}

/// So many results of a function.
fn results(vm: &Vm, function: &str, count: usize) -> Vec<Value> {
    let path = vm.folder.path().join(format!("{function}.results"));
    let found = eventually(PATIENCE, || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.matches('\n').count() >= count)
            .then(|| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    });
    found.unwrap_or_else(|| panic!("not {count} results of {function}\n{}", vm.running.written()))
}

const ODD: &str = r#"
def handler(event, context):
    m, said = context.metrics, []
    for wrong in [
        lambda: m.observe('a', 1, le='5'), lambda: m.gauge('a', 1, quantile='0.9'), lambda: m.count('a', function='x'),
        lambda: m.count('a', __name__='up'), lambda: m.count('a', __x='up'), lambda: m.count('a', **{'b c': 1}),
        lambda: m.count('a', **{'\n# TYPE a': 1}), lambda: m.count('a', **{'\ud800': 1}), lambda: m.count('a', b='\ud800'),
        lambda: m.count('a\n'), lambda: m.count('9a'), lambda: m.count(''), lambda: m.count('\xe9'), lambda: m.count('\ud800'),
        lambda: m.count(b'a'), lambda: m.count('a', -1), lambda: m.count('a', 0.5), lambda: m.count('a', 2**64),
        lambda: m.observe('a', float('nan')), lambda: m.observe('a', float('inf')),
        lambda: m.gauge('info', 1), lambda: m.observe('checksum', 1), lambda: m.count('a', b='x' * 5000),
        lambda: m.count('a' * 300),
    ]:
        try:
            wrong()
            said.append('nothing')
        except ValueError as error:
            said.append(str(error))
    m.count('calls', 2, path='C:\\new "x"\n', b='2')
    m.count('calls', 3, b='2', path='C:\\new "x"\n')
    m.count('calls', 1, path='C:\\\\new "x"\n', b='2')
    m.count('calls', path='\r\0\x1b\u2028' + chr(0x1f600))
    m.gauge('level', float('nan')); m.gauge('low', float('-inf')); m.gauge('level', float('inf'), side='left')
    for size in (1, 2, 1e308, 1e308):
        m.observe('size', size, kind='x')
    for again in [lambda: m.gauge('calls', 1), lambda: m.observe('level', 1), lambda: m.count('size_sum'),
                  lambda: m.gauge('size_bucket', 1), lambda: m.gauge('size_count', 1)]:
        try:
            again()
            said.append('nothing')
        except ValueError as error:
            said.append(str(error))
    m.gauge('half_count', 1)
    try:
        m.observe('half', 1)
        said.append('nothing')
    except ValueError as error:
        said.append(str(error))
    return said
"#;

#[test]
fn whatever_a_function_measures_the_page_can_be_read() {
    for isolation in ["process", "inline"] {
        let mut vm = functions(ODD, isolation, &[("handler", "1\n2\n")]);
        let said = results(&vm, "handler", 2);
        for said in &said {
            let said: Vec<_> = said.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
            assert_eq!(said.len(), 30, "{said:?}");
            assert!(
                said.iter().all(|text| text.starts_with("metric ") || text.starts_with("metric b'a'")),
                "{said:#?}"
            );
            for (n, words) in [
                (0, "metric 'a': label 'le' is reserved; use another name for it"),
                (5, "metric 'a': label 'b c' is not made of letters, digits and _"),
                (8, "metric 'a': label 'b'='\\ud800' cannot be written as UTF-8"),
                (9, "metric 'a\n': a name has letters, digits and _, and no digit first"),
                (20, "metric 'info': 'info' is a metric of the runtime; use another name"),
                (24, "metric 'calls': the name was used for another kind before, with count(); gauge() needs"),
                (
                    26,
                    "metric 'size_sum': the name is that of a part of the distribution 'size', measured with observe()",
                ),
                (
                    29,
                    "metric 'half': a distribution has a part 'half_count', and that name was used before, with gauge()",
                ),
            ] {
                assert!(said[n].starts_with(words), "{n}: {} is not {words}", said[n]);
            }
        }
        let page = page(&mut vm);
        let calls = values(&page, "handler", "calls");
        let counted = |path: &str, b: Option<&str>| {
            let mut labels = vec![("path".to_owned(), path.to_owned())];
            labels.extend(b.map(|b| ("b".to_owned(), b.to_owned())));
            labels.sort();
            calls.iter().find(|(found, _)| *found == labels).map(|(_, value)| *value)
        };
        // the order of labels makes no difference, a backslash does
        assert_eq!(counted("C:\\new \"x\"\n", Some("2")), Some(10.0), "{calls:?}");
        assert_eq!(counted("C:\\\\new \"x\"\n", Some("2")), Some(2.0), "{calls:?}");
        assert_eq!(counted("\r\0\x1b\u{2028}\u{1f600}", None), Some(2.0), "{calls:?}");
        assert_eq!(calls.len(), 3, "{calls:?}");
        assert!(values(&page, "handler", "level")[0].1.is_nan() || values(&page, "handler", "level")[1].1.is_nan());
        assert_eq!(values(&page, "handler", "low")[0].1, f64::NEG_INFINITY);
        assert_eq!(values(&page, "handler", "size_count")[0].1, 8.0);
        for name in ["a", "checksum", "half"] {
            assert!(values(&page, "handler", name).is_empty(), "{name}");
        }
        assert!(values(&page, "handler", "info").iter().all(|(labels, _)| labels[0].0 == "hash"));
    }
}

/// A name is one metric for all functions of the process, and for all workers of one.
#[test]
fn functions_and_workers_meet_each_others_names() {
    let code = "
import os, time

def first(event, context):
    context.metrics.count('jobs', kind='x')
    context.metrics.observe('took', 1)
    return 'done'

def second(event, context):
    # the other one is first
    while not os.path.exists('first.results') or not os.path.getsize('first.results'):
        time.sleep(0.01)
    said = []
    for measure in (lambda: context.metrics.gauge('jobs', 1), lambda: context.metrics.gauge('took_sum', 1)):
        try:
            measure()
        except ValueError as error:
            said.append(str(error))
    context.metrics.count('jobs', 5)
    if event == 1:
        os._exit(0)
    return said
";
    let mut vm = functions(code, "process", &[("first", "1\n"), ("second", "0\n1\n2\n")]);
    let expected = json!([
        "metric 'jobs': the name was used for another kind before, with count() by function 'first'; gauge() needs a name \
         of its own",
        "metric 'took_sum': the name is that of a part of the distribution 'took', measured with observe() by function \
         'first'; use another name"
    ]);
    // also by the worker that comes after the one that has ended
    assert_eq!(results(&vm, "second", 2), [expected.clone(), expected]);
    let page = page(&mut vm);
    assert_eq!(values(&page, "first", "jobs"), [(vec![("kind".to_owned(), "x".to_owned())], 1.0)]);
    assert!(values(&page, "second", "jobs")[0].1 >= 5.0);
    assert!(values(&page, "second", "took_sum").is_empty());
}

#[test]
fn a_function_has_so_many_series_whatever_becomes_of_its_workers() {
    let code = "
import os

def handler(event, context):
    said = None
    for n in range(300):
        try:
            context.metrics.count('many', worker=os.getpid(), n=n)
        except ValueError as error:
            said = str(error)
            break
    if event % 2:
        os._exit(0)
    return [n, said]
";
    let mut vm = functions(code, "process", &[("handler", "0\n1\n2\n3\n4\n5\n6\n7\n8\n")]);
    let last = results(&vm, "handler", 5).pop().unwrap();
    assert_eq!(last[0], 0, "{last}");
    let said = last[1].as_str().unwrap();
    assert!(said.starts_with("metric 'many': the function has 1000 series, and n=\"0\", worker=\""), "{said}");
    assert!(said.ends_with("would be one more; give labels few values, and put what has many into results or logs"));
    // what a worker had measured in the batch with which it ended is not on the page, but counts
    assert!(values(&page(&mut vm), "handler", "many").len() <= 1000);
}

#[test]
fn a_refused_measurement_fails_its_event_and_no_other() {
    let code = "def handler(event, context):\n    context.metrics.count('a', le=event)\n    return event\n\
                def other(event, context):\n    context.metrics.count('a')\n    return event\n";
    let vm = functions(code, "process", &[("handler", "1\n"), ("other", "1\n")]);
    assert_eq!(results(&vm, "other", 1), [json!(1)]);
    vm.wait_lines(&["ERROR", "call failed: ValueError: metric 'a': label 'le' is reserved", "usermodule.py:2"], 1);
}

#[test]
fn many_measurements_of_one_batch_are_all_counted() {
    let code = "def handler(event, context):\n    \
                for n in range(150000):\n        context.metrics.gauge('at', n); context.metrics.count('steps')\n    \
                context.metrics.observe('size', 1)\n    return 1\n";
    let mut vm = functions(code, "process", &[("handler", "1\n")]);
    results(&vm, "handler", 1);
    let page = page(&mut vm);
    let value = |name| values(&page, "handler", name)[0].1;
    assert_eq!((value("at"), value("steps"), value("size_count")), (149_999.0, 150_000.0, 1.0));
}
