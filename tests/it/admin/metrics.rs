//! gaugefn's own metrics: all of them show from the start.

use super::*;
use redis::Commands;

#[test]
fn every_metric_shows_from_the_start_and_counts() {
    let redis = RedisServer::start();
    let yard = Yard::with(ECHO);
    let mut admin = Admin::reserve();
    // none but this one call is tried again
    let command = yard.serve(&redis, &admin.listen()).env("GAUGEFN__FUNCTIONS__DEFAULT__ERRORS__RETRIES", "2");
    let running = command.env("GAUGEFN__FUNCTIONS__DEFAULT__ERRORS__BACKOFF", "10ms").spawn();
    until_status(&mut admin, &running, "/readyz", 200);

    let start = metrics(&mut admin);
    for (name, kind) in [
        ("invocations_total", "counter"),
        ("invocation_duration_seconds", "histogram"),
        ("in_flight", "gauge"),
        ("skipped_updates_total", "counter"),
        ("retries_total", "counter"),
        ("dead_letters_total", "counter"),
        ("fenced_total", "counter"),
        ("state_bytes", "gauge"),
        ("state_unsaved_keys", "gauge"),
        ("worker_kills_total", "counter"),
        ("worker_restarts_total", "counter"),
        ("log_lines_dropped_total", "counter"),
        ("reloads_total", "counter"),
        ("function_info", "gauge"),
        ("redis_up", "gauge"),
        ("redis_reconnects_total", "counter"),
        ("watch_mode", "gauge"),
        ("build_info", "gauge"),
    ] {
        let name = format!("gaugefn_{name}");
        assert_eq!(start.kinds.get(&name).map(String::as_str), Some(kind), "{name} in {start:?}");
        assert!(start.helped.contains(&name), "{name} has no HELP");
    }
    for outcome in ["ok", "empty", "failed", "bad_input"] {
        assert_eq!(start.get("invocations_total", &[FUNCTION, ("outcome", outcome)]), Some(0.0), "{outcome}");
    }
    for name in [
        "in_flight",
        "skipped_updates_total",
        "retries_total",
        "dead_letters_total",
        "fenced_total",
        "state_unsaved_keys",
        "worker_restarts_total",
        "log_lines_dropped_total",
    ] {
        assert_eq!(start.get(name, &[FUNCTION]), Some(0.0), "{name}");
    }
    for (name, label, values) in
        [("worker_kills_total", "reason", ["timeout", "memory"]), ("reloads_total", "outcome", ["ok", "failed"])]
    {
        for value in values {
            assert_eq!(start.get(name, &[FUNCTION, (label, value)]), Some(0.0), "{name} {value}");
        }
    }
    // in this process there is no worker
    let resident = start.get("worker_resident_bytes", &[FUNCTION]);
    assert!(resident.is_some_and(|bytes| bytes > 1e6) || inline(), "{resident:?}");
    assert!(start.helped.contains("gaugefn_worker_resident_bytes") || inline());
    assert_eq!(start.get("redis_up", &[]), Some(1.0));
    assert_eq!(start.get("redis_reconnects_total", &[]), Some(0.0));
    assert_eq!(start.get("build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    // the default deployment polls
    assert_eq!(start.get("watch_mode", &[FUNCTION, ("mode", "poll")]), Some(1.0));
    assert_eq!(start.get("watch_mode", &[FUNCTION, ("mode", "notify")]), Some(0.0));
    let info: Vec<_> = start.of("gaugefn_function_info").collect();
    let [(_, labels, value)] = info.as_slice() else { panic!("{info:?}") };
    assert_eq!((labels["function"].as_str(), *value), ("default", 1.0));
    assert!(labels["hash"].len() >= 12 && labels["hash"].chars().all(|digit| digit.is_ascii_hexdigit()), "{labels:?}");

    let mut connection = redis.connection();
    for (value, outcome, count) in
        [("[1]", "ok", 1.0), ("{}", "empty", 1.0), ("[2]", "ok", 2.0), ("\"raise\"", "failed", 3.0)]
    {
        let () = connection.set("metrics", value).unwrap();
        until(value, &running, || {
            let found = metrics(&mut admin).get("invocations_total", &[FUNCTION, ("outcome", outcome)]);
            (found == Some(count)).then_some(())
        });
    }
    let end = metrics(&mut admin);
    assert_eq!(end.get("retries_total", &[FUNCTION]), Some(2.0));
    let calls = end.get("invocation_duration_seconds_count", &[FUNCTION]);
    assert_eq!(calls, Some(6.0));
    assert!(end.get("invocation_duration_seconds_sum", &[FUNCTION]).unwrap() < 6.0);
    assert_eq!(end.kinds.get("gaugefn_input_age_seconds").map(String::as_str), Some("gauge"));
    let age = end.get("input_age_seconds", &[FUNCTION]).unwrap();
    assert!((0.0..20.0).contains(&age), "{age}");
    // it grows while nothing comes
    until("an older input", &running, || {
        (metrics(&mut admin).get("input_age_seconds", &[FUNCTION]).unwrap() > age + 0.05).then_some(())
    });

    let functions: Value = serde_json::from_str(&admin.get("/api/functions").unwrap().1).unwrap();
    assert_eq!(functions["default"]["running"], true, "{functions}");
    assert_eq!(functions["default"]["revision"], labels["hash"].as_str(), "{functions}");
    assert_eq!(functions["default"]["parts"]["source"], "redis_key", "{functions}");
    assert_eq!(functions["default"]["calls"], json!({ "ok": 2, "empty": 1, "failed": 3 }), "{functions}");
    assert!(functions["default"]["last_error"].as_str().unwrap().contains("ValueError: no"), "{functions}");
}
