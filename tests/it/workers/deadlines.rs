//! Calls that take longer than they may.

use super::*;
use crate::support::tier::scale;

const STUCK: &str = include_str!("stuck.py");

#[test]
fn finished_events_of_a_batch_keep_their_results_and_none_is_called_twice() {
    let mut fed = Fed::python(STUCK, "timeout = \"300ms\"");
    let mut batch: Vec<_> = (0..40).map(|n| json!({"n": n})).collect();
    batch[17]["do"] = json!("busy");
    batch[31]["do"] = json!("sleep");
    fed.send(&batch);
    fed.call(&17.into());
    assert_eq!(fed.results().len(), 1, "they are one batch, whose results come together");
    fed.result(&39.into());
    let results = fed.results();
    let numbers: Vec<_> = results.iter().skip(1).map(|result| result["n"].as_u64().unwrap()).collect();
    let expected: Vec<_> = (0..40).filter(|n| ![17, 31].contains(n)).collect();
    assert_eq!(numbers, expected);
    let called: Vec<_> = fed.calls().iter().skip(1).map(|call| call["n"].as_u64().unwrap()).collect();
    assert_eq!(called, (0..40).collect::<Vec<_>>(), "each once, in order");
    let workers: Vec<_> = results.iter().skip(1).map(|result| result["pid"].clone()).collect();
    assert!(workers[0] == workers[16] && workers[16] != workers[17] && workers[17] == workers[29]);
    assert!(workers[29] != workers[30] && workers[30] == workers[37]);
    fed.wait_count("worker_kills_total", "reason=\"timeout\"", 2);
    fed.wait_count("invocations_total", "outcome=\"failed\"", 2);
    fed.wait_count("invocations_total", "outcome=\"ok\"", 39);
    fed.vm.wait_lines(&["ERROR", "event=events:19", "no answer within 300ms"], 1);
    fed.stop();
}

/// What has been waiting for it goes on before the worker is killed, and is not called again by the next one.
#[test]
fn a_call_that_ends_while_it_is_about_to_be_killed_repeats_nothing() {
    let mut fed = Fed::python(STUCK, "timeout = \"100ms\"");
    for round in 0..scale(50, 5) {
        let [late, next, last] = ["late", "next", "last"].map(|name| json!(format!("{round} {name}")));
        fed.send(&[json!({"n": late, "do": "late", "seconds": 0.107})]);
        fed.call(&late);
        fed.send(&[json!({"n": next}), json!({"n": last})]);
        fed.result(&last);
        for n in [late, next, last] {
            assert_eq!(
                fed.calls().iter().filter(|call| call["n"] == n).count(),
                1,
                "{n}\n{}",
                fed.vm.running.written()
            );
        }
    }
    fed.stop();
}

/// A process that is stopped never begins with its next event, whose time has to run all the same.
#[test]
fn a_worker_that_was_stopped_is_replaced() {
    let mut fed = Fed::python(STUCK, "timeout = \"300ms\"");
    let first = fed.ask(json!({"n": "before"}));
    let pid = rustix::process::Pid::from_raw(first["pid"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    fed.send(&[json!({"n": "lost"}), json!({"n": "after"})]);
    assert_ne!(fed.result(&"after".into())["pid"], first["pid"]);
    fed.wait_count("worker_kills_total", "reason=\"timeout\"", 1);
    fed.vm.wait_lines(&["ERROR", "no answer within 300ms: the worker was killed"], 1);
    assert!(!alive(pid.as_raw_nonzero().get()));
    fed.stop();
}

#[test]
fn a_call_knows_how_long_it_has() {
    let mut fed = Fed::python(STUCK, "timeout = \"20s\"");
    fed.send(&[json!({"n": 1, "do": "times"}), json!({"n": 2, "do": "times"})]);
    for n in [1, 2] {
        let result = fed.result(&n.into());
        let [before, left, after] = ["before", "left", "after"].map(|name| result[name].as_f64().unwrap());
        // each event has all of it, however long the one before took
        assert!((19_980.0..=20_000.0).contains(&before), "{result}");
        assert!((left - before).abs() < 20.0, "{result}");
        assert!((50.0..5_000.0).contains(&(before - after)), "{result}");
    }
    fed.stop();
}

#[test]
fn without_a_limit_there_is_no_deadline() {
    let code = "def handler(event, context):\n    note(n=event['n'])\n    \
                return {'n': event['n'], 'deadline': str(context.deadline), 'left': context.get_remaining_time_in_millis()}\n";
    let mut fed = Fed::python(code, "");
    let result = fed.ask(json!({"n": 1}));
    assert_eq!((&result["deadline"], &result["left"]), (&json!("None"), &json!(i64::MAX)));
    fed.stop();
}

mod timing {
    use super::*;
    use crate::support::bed::bound;
    use crate::support::tier::soak;

    /// What the product promises: how much later than the limit, and how much later than that the next result.
    const LATE: Duration = Duration::from_millis(100);
    const NEXT: Duration = Duration::from_millis(150);

    /// The middle and the most of both times.
    fn figures(what: &str, late: &mut [f64], next: &mut [f64]) {
        let middle_and_most = |values: &mut [f64]| {
            values.sort_by(f64::total_cmp);
            (values[values.len() / 2] * 1e3, values[values.len() - 1] * 1e3)
        };
        let ((late, latest), (next, longest)) = (middle_and_most(late), middle_and_most(next));
        measured(format_args!(
            "{what}: killed {late:.1} ms (most {latest:.1}) late, next result {next:.1} ms (most {longest:.1}) later"
        ));
    }

    /// Has the function hang, with a good event after it; how late it was killed, and how long the next one took then.
    fn hang(fed: &mut Fed, event: &Value, n: usize, limit: Duration, pid: Option<i32>) -> (f64, f64) {
        let (poison, good) = (json!(format!("{n} hangs")), json!(format!("{n} follows")));
        let mut event = event.clone();
        event["n"] = poison.clone();
        let sent = now();
        fed.send(&[event, json!({"n": good})]);
        let (pid, begun) = match pid {
            Some(pid) => (pid, sent),
            None => {
                let call = fed.call(&poison);
                (call["pid"].as_i64().unwrap() as i32, call["at"].as_f64().unwrap())
            }
        };
        let ended = eventually(PATIENCE, || (!alive(pid)).then(now));
        let ended = ended.unwrap_or_else(|| panic!("{poison} goes on\n{}", fed.vm.running.written()));
        fed.result(&good);
        let answered = now();
        let late = ended - begun - limit.as_secs_f64();
        let next = answered - ended;
        assert!(late > -0.002 && late <= bound(LATE).as_secs_f64(), "{poison}: {late} s late\n{}", fed.last_words());
        assert!(next <= bound(NEXT).as_secs_f64(), "{good}: {next} s later\n{}", fed.last_words());
        (late, next)
    }

    #[test]
    fn whatever_hangs_is_killed_in_time_with_all_that_it_has_started() {
        let limit = Duration::from_millis(scale(1000, 300) as u64);
        let mut fed = Fed::python(STUCK, &format!("timeout = \"{}ms\"", limit.as_millis()));
        let names = ["busy", "sleep", "regex", "waits", "session", "daemon", "masked", "stubborn"];
        let (mut lates, mut nexts) = (Vec::new(), Vec::new());
        let code = format!("{NOTING}{STUCK}");
        for (n, name) in names.into_iter().enumerate() {
            let (late, next) = hang(&mut fed, &json!({"do": name}), n, limit, None);
            measured(format_args!("{name}: {:.1} ms, {:.1} ms", late * 1e3, next * 1e3));
            lates.push(late);
            nexts.push(next);
            let call = fed.call(&json!(format!("{n} hangs")));
            let worker = call["worker"].as_str().unwrap();
            let left = carrying(&format!("GAUGEFN_WORKER={worker}"));
            assert!(left.is_empty(), "{name}: {left:?}");
            if ["waits", "session", "daemon"].contains(&name) {
                let child = fed.lines("children").last().unwrap()["child"].as_i64().unwrap();
                assert!(!alive(child as i32), "{name}: its child lives");
            }
            let place = format!("usermodule.py:{} in {name}", line_of(&code, &format!("# stuck in {name}")));
            fed.vm.wait_lines(&["ERROR", "no answer within", "the worker was killed after", &place], 1);
        }
        figures("eight ways to hang", &mut lates, &mut nexts);
        fed.wait_count("worker_kills_total", "reason=\"timeout\"", names.len());
        fed.wait_count("invocations_total", "outcome=\"failed\"", names.len());
        fed.stop();
    }

    #[test]
    fn a_library_that_hangs_is_killed_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(scale(1000, 300) as u64);
        let options = format!("timeout = \"{}ms\"\nstandby = \"none\"", limit.as_millis());
        let mut fed = Fed::native(&falls(folder.path()), &options);
        let worker = fed.family();
        let [worker] = worker[..] else { panic!("{worker:?}") };
        let (late, next) = hang(&mut fed, &json!({"do": "loop"}), 0, limit, Some(worker));
        figures("a library", &mut [late], &mut [next]);
        let text = format!(
            "no answer within {}: the worker was killed after {}.",
            if soak() { "1s" } else { "300ms" },
            i32::from(soak())
        );
        fed.vm.wait_lines(&["ERROR", "function=vm", &text], 1);
        fed.wait_count("worker_kills_total", "reason=\"timeout\"", 1);
        fed.stop();
    }

    #[test]
    fn hundreds_of_kills_leave_nothing_behind() {
        let (warm, many) = (5, scale(200, 20));
        let limit = Duration::from_millis(100);
        let mut fed = Fed::python(STUCK, "timeout = \"100ms\"");
        let parent = fed.vm.running.pid();
        let (mut lates, mut nexts) = (Vec::new(), Vec::new());
        let mut before = (0, 0);
        for n in 0..warm + many {
            if n == warm {
                fed.wait_family(2);
                before = (descriptors(parent), resident(parent));
            }
            let (late, next) = hang(&mut fed, &json!({"do": "busy"}), n, limit, None);
            lates.push(late);
            nexts.push(next);
        }
        fed.wait_family(2);
        let mut last = 0;
        let same = eventually(PATIENCE, || {
            last = descriptors(parent);
            (last == before.0).then_some(())
        });
        assert!(same.is_some(), "{} descriptors became {last}", before.0);
        let after = resident(parent);
        measured(format_args!(
            "{many} kills: {} descriptors, {} KiB of resident memory became {}",
            last,
            before.1 >> 10,
            after >> 10
        ));
        figures("one after the other", &mut lates, &mut nexts);
        assert!(after <= before.1 + (5 << 20), "{} bytes of resident memory became {after}", before.1);
        fed.wait_count("worker_kills_total", "reason=\"timeout\"", warm + many);
        fed.wait_count("worker_restarts_total", "function=\"vm\"", warm + many);
        fed.wait_count("invocations_total", "outcome=\"failed\"", warm + many);
        fed.stop();
    }
}
