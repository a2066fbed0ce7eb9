//! Notifications, polling, and what happens in between.

use crate::support::bed::{Bed, PATIENCE, RECORDING, Vm, bound, wait_looks};
use crate::support::redis::RedisServer;
use crate::support::tier::{scale, soak};
use crate::support::wait::eventually;
use redis::Commands;
use std::fs::read_to_string;
use std::thread::sleep;
use std::time::{Duration, Instant};

const ANNOUNCED: [&str; 2] = ["--notify-keyspace-events", "KA"];

const ECHO: &str = "def handler(input, context):\n    return {'got': input}\n";

/// Sets the key and waits for the result without a pause; the time between.
fn set_to_visible(vm: &Vm, redis: &mut redis::Connection, value: usize) -> Duration {
    let wanted = format!(r#"{{"got": {value}}}"#);
    let start = Instant::now();
    let () = redis.set("metrics", value).unwrap();
    while redis.get::<_, Option<String>>("result").unwrap().as_deref() != Some(&wanted) {
        assert!(start.elapsed() < PATIENCE, "value {value} has no result\n{}", vm.running.written());
    }
    start.elapsed()
}

fn mode(vm: &mut Vm) -> &'static str {
    let (_, metrics) = vm.admin.get("/metrics").unwrap();
    let of = |mode: &str| metrics.contains(&format!("gaugefn_watch_mode{{function=\"vm\",mode=\"{mode}\"}} 1"));
    match (of("notify"), of("poll")) {
        (true, false) => "notify",
        (false, true) => "poll",
        both => panic!("{both:?}: {metrics}"),
    }
}

fn wait_mode(vm: &mut Vm, wanted: &str) {
    let arrived = eventually(PATIENCE, || (mode(vm) == wanted).then_some(()));
    assert!(arrived.is_some(), "never in mode {wanted}\n{}", vm.running.written());
}

fn figures(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let (median, p99, most) = (at(0.5), at(0.99), at(1.0));
    #[allow(clippy::print_stderr, reason = "a figure that a run is made for")]
    {
        eprintln!("{what}: median {median:?}, p99 {p99:?}, most {most:?} of {}", times.len());
    }
    p99
}

#[test]
fn latency_of_announced_changes() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"1h\"", ECHO).start();
    wait_mode(&mut vm, "notify");
    // waits without taking processor time from those that are measured
    let mut listener = server.connection();
    let mut results = listener.as_pubsub();
    results.subscribe("__keyspace@0__:result").unwrap();
    let events = scale(1200, 100);
    let times = (0..events)
        .map(|value| {
            let start = Instant::now();
            let () = redis.set("metrics", value).unwrap();
            results.get_message().unwrap();
            let time = start.elapsed();
            let result: String = redis.get("result").unwrap();
            assert_eq!(result, format!(r#"{{"got": {value}}}"#));
            sleep((start + Duration::from_millis(50)).saturating_duration_since(Instant::now()));
            time
        })
        .collect();
    let p99 = figures("SET to output, 20 events/s, notifications on", times);
    assert!(p99 <= bound(Duration::from_millis(5)), "p99 {p99:?}\n{}", vm.running.written());
    assert_eq!(vm.lines(&["WARN"]), 0, "{}", vm.running.written());
}

#[test]
fn replaced_values_are_counted() {
    const BURST: u64 = 100;
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"1h\"", ECHO).start();
    wait_mode(&mut vm, "notify");
    let mut burst = redis::pipe();
    burst.atomic();
    for value in 0..BURST {
        burst.set("metrics", value).ignore();
    }
    let () = burst.query(&mut redis).unwrap();
    vm.wait_result(&mut redis, r#"{"got": 99}"#, PATIENCE);
    set_to_visible(&vm, &mut redis, 100);
    vm.wait_calls(2);
    // an update whose announcement came after the value was read counts as read itself
    let skipped = vm.admin.metric("skipped_updates_total", "vm").unwrap().unwrap_or_default();
    assert!((BURST / 2..BURST).contains(&(skipped as u64)), "{skipped} of {BURST} skipped");
}

/// Several changes, each of them seen within one period, with one warning that contains `reason`.
fn polls_with_one_warning(server: &RedisServer, source: &str, reason: &str) {
    const PERIOD: Duration = Duration::from_millis(300);
    let mut redis = server.connection();
    let mut vm = Bed::new(server, &format!("period = \"300ms\"\n{source}"), ECHO).start();
    let times: Vec<_> = (0..scale(50, 10)).map(|value| set_to_visible(&vm, &mut redis, value)).collect();
    // for the call and the way to the key
    let most = PERIOD + Duration::from_millis(100);
    assert!(times.iter().all(|time| *time <= most), "{times:?}\n{}", vm.running.written());
    assert_eq!(mode(&mut vm), "poll");
    vm.wait_lines(&["WARN", reason], 1);
    vm.wait_lines(&["WARN"], 1);
    // the last of many within a period
    for value in 1000..1050 {
        let () = redis.set("metrics", value).unwrap();
    }
    vm.wait_result(&mut redis, r#"{"got": 1049}"#, most);
}

#[test]
fn timing_notifications_are_off() {
    polls_with_one_warning(&RedisServer::start(), "", "does not announce changes of key 'metrics'");
}

#[test]
fn timing_notifications_are_forbidden() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let rules =
        ["SETUSER", "vm", "on", ">secret", "resetchannels", "~metrics", "~result", "+get", "+set", "+subscribe"];
    let () = redis::cmd("ACL").arg(&rules).query(&mut server.connection()).unwrap();
    let url = format!("url = \"redis://vm:secret@127.0.0.1:{}/0\"", server.port());
    polls_with_one_warning(&server, &url, "denies SUBSCRIBE '__keyspace@0__:metrics' to user 'vm' (NOPERM)");
}

#[test]
fn timing_a_cut_subscription() {
    const PERIOD: Duration = Duration::from_secs(3);
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"3s\"", ECHO).start();
    wait_mode(&mut vm, "notify");
    set_to_visible(&vm, &mut redis, 0);
    for cut in 1..=scale(10, 2) {
        // between two changes, and with a change before anybody could listen again
        let killed: u64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query(&mut redis).unwrap();
        assert_eq!(killed, 1);
        let time = set_to_visible(&vm, &mut redis, 10 * cut);
        assert!(time < PERIOD, "{time:?}");
        wait_mode(&mut vm, "notify");
        // notifications work again
        for value in 1..4 {
            let time = set_to_visible(&vm, &mut redis, 10 * cut + value);
            assert!(time < bound(Duration::from_millis(100)), "{time:?}\n{}", vm.running.written());
        }
        vm.wait_lines(&["WARN", "notifications of key 'metrics'"], cut);
        vm.wait_lines(&["WARN"], cut);
        // a subscription that is ended as soon as it is made has to wait
        sleep(Duration::from_millis(1100));
    }
}

#[test]
fn a_subscription_that_is_cut_again_and_again_misses_no_last_value() {
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"500ms\"", ECHO).start();
    wait_mode(&mut vm, "notify");
    let start = Instant::now();
    for round in 0..scale(100, 10) {
        for step in 0..3 {
            let () = redis.set("metrics", 10 * round + step).unwrap();
            let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query(&mut redis).unwrap();
        }
        vm.wait_result(&mut redis, &format!(r#"{{"got": {}}}"#, 10 * round + 2), PATIENCE);
    }
    // each subscription lives for a second at least, or its successor waits
    let most = start.elapsed().as_secs() as usize + 2;
    assert!((1..=most).contains(&vm.lines(&["WARN"])), "{}", vm.running.written());
}

#[test]
fn notify_on_a_silent_server_is_not_ready() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"50ms\"\nwatch = \"notify\"", ECHO).start();
    for value in 0..2 {
        set_to_visible(&vm, &mut redis, value);
    }
    let reason = "does not announce changes of key 'metrics' (its notify-keyspace-events lacks K with $ and g)";
    let body = vm.wait_unready(reason, PATIENCE);
    assert!(body.contains("function 'vm', source: redis at 127.0.0.1:"), "{body}");
    // what it can do, it does
    set_to_visible(&vm, &mut redis, 2);
    wait_looks(&mut redis, 5);
    vm.wait_lines(&["WARN"], 1);
    let () = redis::cmd("CONFIG").arg(&["SET", "notify-keyspace-events", "K$"]).query(&mut redis).unwrap();
    for value in 3..5 {
        set_to_visible(&vm, &mut redis, value);
    }
    vm.wait_ready(PATIENCE);
    assert_eq!(mode(&mut vm), "notify");
}

#[test]
fn timing_polling_is_never_faster_than_the_period() {
    const PERIOD: f64 = 0.1;
    let server = RedisServer::start_with(&ANNOUNCED);
    let mut redis = server.connection();
    let mut vm = Bed::new(&server, "period = \"100ms\"\nwatch = \"poll\"", RECORDING).start();
    let calls = scale(300, 30);
    let mut value = 0;
    while vm.recorded().len() < calls {
        value += 1;
        let () = redis.set("metrics", value).unwrap();
        sleep(Duration::from_millis(5));
        if value % 300 == 0 {
            // whoever has to connect anew may be late, but not early the next time
            let () = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut redis).unwrap();
        }
        assert!(vm.running.exited().is_none(), "{}", vm.running.written());
    }
    let times: Vec<f64> = vm.recorded().iter().map(|(time, _)| *time).collect();
    let gaps: Vec<Duration> = times.windows(2).map(|pair| Duration::from_secs_f64(pair[1] - pair[0])).collect();
    let least = gaps.iter().min().unwrap().as_secs_f64();
    // the way from the reading to the call takes its time, now less, now more
    let slack = bound(Duration::from_millis(5)).as_secs_f64();
    assert!(least > PERIOD - slack, "{least} s between two calls");
    figures("between two calls, period 100 ms, a change each 5 ms", gaps);
}

#[test]
fn load_of_an_idle_process() {
    let server = RedisServer::start();
    let mut redis = server.connection();
    let () = redis.set("metrics", "1").unwrap();
    let mut vm = Bed::new(&server, "period = \"5s\"\nwatch = \"poll\"", ECHO).start();
    vm.wait_calls(1);
    let time = Duration::from_secs(if soak() { 60 } else { 10 });
    let before = processor_time(&vm);
    sleep(time);
    let used = processor_time(&vm) - before;
    let share = used.as_secs_f64() / time.as_secs_f64();
    figures("processor time while idle", vec![used]);
    // the kernel counts in steps of 10 ms
    let most = if soak() { 0.005 } else { 0.025 };
    assert!(share <= most, "{used:?} in {time:?}: {:.2} % of a core", share * 100.0);
}

/// User and system time of the process.
fn processor_time(vm: &Vm) -> Duration {
    let stat = read_to_string(format!("/proc/{}/stat", vm.running.pid())).unwrap();
    // the name, which may hold spaces, ends with the last parenthesis
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}
