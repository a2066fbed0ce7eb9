//! The link against a real redis-server: connecting, refusals by name, recovery, notifications.
#![allow(clippy::unwrap_used)]

mod support;

use std::error::Error;
use std::time::{Duration, Instant};

use redis_link::{Link, Settings, Trouble, Watch};
use rustix::process::Signal;
use support::{PATIENCE, Server, certificates, free_port, recovered, run};

#[tokio::test]
async fn connects_when_first_used() {
    let server = Server::start(&[]);
    let link = server.link();
    assert!(!link.is_up());
    assert_eq!(link.get("metrics").await.unwrap(), None);
    run(&link, "SET metrics {\"a\":1}").await.unwrap();
    assert_eq!(link.get(b"metrics").await.unwrap().unwrap(), b"{\"a\":1}");
    assert!(link.is_up());
    assert_eq!(link.reconnects(), 0);

    let mut pipeline = redis::pipe();
    pipeline.atomic().set("a", 1).ignore().get("a");
    assert_eq!(link.pipeline::<(i64,)>(&pipeline).await.unwrap(), (1,));
    let name: String = link.query(redis::cmd("CLIENT").arg("GETNAME")).await.unwrap();
    assert_eq!(name, "gaugefn");
}

#[tokio::test]
async fn many_callers_share_one_connection() {
    let server = Server::start(&[]);
    let link = server.link();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move { link.get("k").await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(link.reconnects(), 0);
    let clients: String = link.query(redis::cmd("CLIENT").arg("LIST")).await.unwrap();
    assert_eq!(clients.matches("name=gaugefn").count(), 1, "{clients}");
}

#[tokio::test]
async fn the_database_is_selected() {
    let server = Server::start(&[]);
    let at = |db: u32| {
        let url = format!("redis://127.0.0.1:{}/{db}", server.port);
        Link::new(Settings::default().resolve(Some(&url)).unwrap())
    };
    run(&at(3), "SET k three").await.unwrap();
    assert_eq!(at(3).get("k").await.unwrap().unwrap(), b"three");
    assert_eq!(at(0).get("k").await.unwrap(), None);

    let error = at(99).get("k").await.unwrap_err();
    let place = format!("127.0.0.1:{}", server.port);
    assert_eq!(error.to_string(), format!("redis at {place} has no database 99 (ERR): check REDIS_DB"));
    assert!(!error.retry());
}

#[tokio::test]
async fn passwords_right_wrong_and_missing() {
    let password = "p@ss/w:o#r%d?&=+ü";
    let server = Server::start(&["--requirepass", password]);
    let place = format!("127.0.0.1:{}", server.port);

    let link = Link::new(server.target(None, Some(password)));
    assert_eq!(link.get("k").await.unwrap(), None);
    let url = format!("redis://:p%40ss%2Fw%3Ao%23r%25d%3F%26%3D%2B%C3%BC@{place}/0");
    let link = Link::new(Settings::default().resolve(Some(&url)).unwrap());
    assert_eq!(link.get("k").await.unwrap(), None);
    Watch::open(link.target(), "k").await.unwrap();

    for (target, expected) in [
        (
            server.target(None, Some("s3cret-wrong")),
            format!(
                "redis at {place} refuses the password of user 'default' (WRONGPASS): check REDIS_USERNAME and \
                 REDIS_PASSWORD"
            ),
        ),
        (
            server.target(Some("bob"), None),
            format!(
                "redis at {place} refuses the password of user 'bob' (WRONGPASS): check REDIS_USERNAME and \
                 REDIS_PASSWORD"
            ),
        ),
        (
            server.target(None, None),
            format!("redis at {place} wants a password (NOAUTH): set REDIS_PASSWORD or redis.password_file"),
        ),
    ] {
        let link = Link::new(target.clone());
        let error = link.get("k").await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), Trouble::Password);
        assert!(error.retry() && !link.is_up());
        let watch = Watch::open(&target, "k").await.unwrap_err();
        assert_eq!(watch.kind(), Trouble::Password, "{watch}");
        let shown = format!("{error:?} {error} {link:?} {watch:?} {watch}");
        assert!(!shown.contains("s3cret-wrong"), "{shown}");
    }
}

#[tokio::test]
async fn a_password_for_a_server_without_one_is_named() {
    let server = Server::start(&[]);
    let error = Link::new(server.target(None, Some("p"))).get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Password);
    assert!(error.to_string().contains("has no password set (ERR)"), "{error}");
}

#[tokio::test]
async fn a_rotated_password_file_is_taken_up() {
    let server = Server::start(&["--requirepass", "old"]);
    let file = server.folder().join("password");
    std::fs::write(&file, "old\n").unwrap();
    let target = Settings {
        host: Some("127.0.0.1".to_owned()),
        port: Some(server.port),
        password_file: Some(file.clone()),
        ..Settings::default()
    };
    let link = Link::new(target.resolve(None).unwrap());
    run(&link, "CONFIG SET requirepass new").await.unwrap();
    link.discard();
    assert_eq!(link.get("k").await.unwrap_err().kind(), Trouble::Password);
    std::fs::write(&file, "new\n").unwrap();
    assert_eq!(link.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_user_that_may_only_get_one_key_connects() {
    let server = Server::start(&["--user", "bob", "on", ">pw", "resetchannels", "-@all", "+get", "~metrics"]);
    let place = format!("127.0.0.1:{}", server.port);
    run(&server.link(), "SET metrics 1").await.unwrap();
    let target = server.target(Some("bob"), Some("pw"));
    let link = Link::new(target.clone());
    assert_eq!(link.get("metrics").await.unwrap().unwrap(), b"1");

    let error = link.get("other").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "redis at {place} denies GET 'other' to user 'bob' (NOPERM): allow it with ACL SETUSER bob +get '~other'"
        )
    );
    assert!(error.source().unwrap().to_string().starts_with("NOPERM "));
    let error = run(&link, "SET metrics secret-value").await.unwrap_err();
    assert!(error.to_string().contains("denies SET 'metrics'"), "{error}");
    assert!(!error.to_string().contains("secret-value"));
    // the server is up, and the connection stays
    assert!(link.is_up());
    assert_eq!(link.reconnects(), 0);

    let error = Watch::open(&target, "metrics").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Permission);
    assert!(error.to_string().contains("denies SUBSCRIBE '__keyspace@0__:metrics' to user 'bob' (NOPERM)"), "{error}");
}

#[tokio::test]
async fn a_channel_that_the_acl_hides_is_named() {
    let server = Server::start(&["--user", "bob", "on", "nopass", "resetchannels", "+@all", "~*"]);
    let target = server.target(Some("bob"), None);
    Link::new(target.clone()).get("k").await.unwrap();
    let error = Watch::open(&target, "k").await.unwrap_err();
    assert!(error.to_string().ends_with("ACL SETUSER bob +subscribe '&__keyspace@0__:k'"), "{error}");
}

#[tokio::test]
async fn a_replica_is_named_and_left() {
    let nowhere = free_port().to_string();
    let server = Server::start(&[]);
    let link = server.link();
    run(&link, "SET k 1").await.unwrap();
    run(&link, &format!("REPLICAOF 127.0.0.1 {nowhere}")).await.unwrap();
    let error = run(&link, "SET k 2").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "redis at 127.0.0.1:{} is a read-only replica (READONLY): point REDIS_HOST at the primary",
            server.port
        )
    );
    assert!(error.retry());
    assert_eq!(link.get("k").await.unwrap().unwrap(), b"1");
    assert_eq!(link.reconnects(), 1);

    run(&link, "CONFIG SET replica-serve-stale-data no").await.unwrap();
    let error = link.get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Busy);
    assert!(error.to_string().contains("(MASTERDOWN)"), "{error}");
    run(&link, "REPLICAOF NO ONE").await.unwrap();
    run(&link, "SET k 2").await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_type_is_named() {
    let server = Server::start(&[]);
    let link = server.link();
    run(&link, "LPUSH metrics x").await.unwrap();
    let error = link.get("metrics").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::WrongType);
    assert_eq!(
        error.to_string(),
        format!(
            "redis at 127.0.0.1:{} holds no string under 'metrics', as GET expects (WRONGTYPE): delete the key or \
             name another",
            server.port
        )
    );
    let mut pipeline = redis::pipe();
    pipeline.set("a", 1).ignore().xadd("metrics", "*", &[("f", 1)]);
    let error = link.pipeline::<redis::Value>(&pipeline).await.unwrap_err();
    assert!(error.to_string().contains("no stream under 'metrics', as XADD expects"), "{error}");
    assert!(link.is_up());
}

#[tokio::test]
async fn a_server_that_loads_is_waited_for() {
    let mut server = Server::start(&[]);
    let link = server.link();
    for key in 0..60 {
        run(&link, &format!("SET k{key} {}", "x".repeat(2048))).await.unwrap();
    }
    run(&link, "SAVE").await.unwrap();
    drop(link);
    // 60 keys at 20 ms each
    server.restart(&["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]);
    let link = server.link();
    let error = link.get("k1").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Busy);
    assert!(error.to_string().contains("is still loading its data (LOADING)"), "{error}");
    assert!(!link.is_up());
    assert_eq!(recovered(&link, "k1").await.unwrap().len(), 2048);
    assert!(link.is_up());
    assert_eq!(link.reconnects(), 0);
}

#[tokio::test]
async fn a_unix_socket() {
    let server = Server::start(&[]);
    for scheme in ["unix:", "unix://", "redis+unix://"] {
        let url = format!("{scheme}{}?db=2", server.socket().display());
        let link = Link::new(Settings::default().resolve(Some(&url)).unwrap());
        run(&link, "SET k 2").await.unwrap();
        assert_eq!(link.get("k").await.unwrap().unwrap(), b"2");
    }
    assert_eq!(server.link().get("k").await.unwrap(), None);
    let gone = server.folder().join("none.sock");
    let url = format!("unix:{}", gone.display());
    let link = Link::new(Settings::default().resolve(Some(&url)).unwrap());
    let error = link.get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable);
    assert!(error.to_string().contains(&*gone.to_string_lossy()), "{error}");
}

#[tokio::test]
async fn tls_with_a_private_authority() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let files = ["--tls-cert-file", "redis.crt", "--tls-key-file", "redis.key", "--tls-ca-cert-file", "ca.crt"];
    let options = [&files[..], &["--tls-auth-clients", "no", "--requirepass", "pw"]].concat();
    let server = Server::start_in(folder, &options, true);
    let mut settings = Settings {
        url: Some(format!("rediss://:pw@127.0.0.1:{}/1", server.port)),
        ca_file: Some(server.folder().join("ca.crt")),
        ..Settings::default()
    };
    let target = settings.resolve(None).unwrap();
    let link = Link::new(target.clone());
    run(&link, "SET k 1").await.unwrap();
    assert_eq!(link.get("k").await.unwrap().unwrap(), b"1");
    Watch::open(&target, "k").await.unwrap();

    settings.ca_file = None;
    let error = Link::new(settings.resolve(None).unwrap()).get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Tls, "{error} {:?}", error.source());
    assert!(error.to_string().contains("redis.ca_file"), "{error}");

    let plain = server.target(None, Some("pw"));
    let error = Link::new(plain).get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable, "{error} {:?}", error.source());

    settings.ca_file = Some(server.folder().join("redis.key"));
    let error = settings.resolve(None).unwrap_err();
    assert!(error.to_string().contains("holds no certificate"), "{error}");
    settings.ca_file = Some(server.folder().join("none.crt"));
    let error = settings.resolve(None).unwrap_err();
    assert!(error.to_string().contains("none.crt' cannot be read"), "{error}");
}

#[tokio::test]
async fn nobody_there() {
    let port = free_port();
    let settings = Settings { host: Some("127.0.0.1".to_owned()), port: Some(port), ..Settings::default() };
    let link = Link::new(settings.resolve(None).unwrap());
    let error = link.get("k").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("redis at 127.0.0.1:{port} refuses the connection: start it, or check REDIS_HOST and REDIS_PORT")
    );
    assert!(error.retry() && !link.is_up());
    let error = Watch::open(link.target(), "k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable);

    let url = "redis://no-such-host.invalid";
    let link = Link::new(Settings::default().resolve(Some(url)).unwrap());
    let error = link.get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable, "{error}");
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn killed_and_restarted() {
    let mut server = Server::start(&[]);
    let link = server.link();
    run(&link, "SET k 1").await.unwrap();
    server.kill();
    let error = link.get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable);
    let error = link.get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable);
    assert!(!link.is_up());
    server.restart(&[]);
    assert_eq!(recovered(&link, "k").await, None);
    assert!(link.is_up());
    assert_eq!(link.reconnects(), 1);
}

#[tokio::test]
async fn the_connection_is_killed() {
    let server = Server::start(&[]);
    let (link, other) = (server.link(), server.link());
    let mut mine = link.connection().await.unwrap();
    run(&other, "CLIENT KILL TYPE normal SKIPME yes").await.unwrap();
    // what may run twice is sent once more
    link.get("k").await.unwrap();
    assert_eq!(link.reconnects(), 1);
    run(&other, "CLIENT KILL TYPE normal SKIPME yes").await.unwrap();
    let error = run(&link, "SET k 1").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable);
    assert!(error.to_string().ends_with("closed the connection"), "{error}");
    run(&link, "SET k 1").await.unwrap();

    // an error from a connection that was handed out
    let error = redis::cmd("GET").arg("k").query_async::<redis::Value>(&mut mine).await.unwrap_err();
    let fault = link.fault(error, "GET");
    assert_eq!(fault.kind(), Trouble::Unreachable);
    assert!(fault.redis().unwrap().is_io_error());
    link.get("k").await.unwrap();
}

/// A command that may not run twice: nothing of it can have been sent.
#[tokio::test]
async fn a_connection_that_was_closed_in_a_pause_is_no_failure() {
    let server = Server::start(&[]);
    let (link, other) = (server.link(), server.link());
    run(&link, "SET k 0").await.unwrap();
    for number in 1..3 {
        run(&other, "CLIENT KILL TYPE normal SKIPME yes").await.unwrap();
        // a look that is worth it comes after a pause
        tokio::time::sleep(Duration::from_millis(600)).await;
        run(&link, "INCR k").await.unwrap();
        assert_eq!(link.get("k").await.unwrap().unwrap(), number.to_string().as_bytes());
        assert_eq!(link.reconnects(), number);
    }
    // one that lives is asked nothing
    let asked = async || {
        let stats: String = other.query(redis::cmd("INFO").arg("commandstats")).await.unwrap();
        stats.contains("cmdstat_hello")
    };
    tokio::time::sleep(Duration::from_millis(600)).await;
    run(&link, "INCR k").await.unwrap();
    assert_eq!(link.reconnects(), 2);
    assert!(!asked().await);
}

/// A server that limits what it holds for a client closes the connection.
#[tokio::test]
async fn answers_that_are_too_large_come_in_parts_or_are_named() {
    let server = Server::start(&["--client-output-buffer-limit", "normal 200kb 200kb 1"]);
    let link = server.link();
    for key in 0..40 {
        run(&link, &format!("HSET h{key} f {}", "x".repeat(20_000))).await.unwrap();
    }
    for _ in 0..3 {
        let mut all = redis::pipe();
        for key in 0..40 {
            all.cmd("HGETALL").arg(format!("h{key}"));
        }
        let answers = link.each::<Vec<String>>(all).await.unwrap();
        assert_eq!(answers.len(), 40);
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap()[1].len() == 20_000));
    }
    run(&link, &format!("SET large {}", "x".repeat(300_000))).await.unwrap();
    let error = link.get("large").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "redis at 127.0.0.1:{} closes the connection at each GET 'large': the answer may be larger than its \
             client-output-buffer-limit; raise that, or remove what is so large",
            server.port
        )
    );
    assert!(error.retry());
    run(&link, &format!("HSET h0 f {}", "x".repeat(300_000))).await.unwrap();
    let mut all = redis::pipe();
    all.cmd("HGETALL").arg("h1").cmd("HGETALL").arg("h0");
    let error = link.each::<Vec<String>>(all).await.unwrap_err();
    assert!(error.to_string().contains("closes the connection at each HGETALL 'h0'"), "{error}");
}

#[tokio::test]
async fn a_hung_server_is_given_up_and_found_again() {
    let server = Server::start(&[]);
    let link = server.link();
    run(&link, "SET k 1").await.unwrap();
    server.signal(Signal::STOP);
    let start = Instant::now();
    let error = link.get("k").await.unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable);
    assert!(error.to_string().contains("does not answer in time"), "{error}");
    // connecting to it: the kernel accepts, nobody greets; those who wait share one attempt
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let link = link.clone();
            tokio::spawn(async move { link.get("k").await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap_err().kind(), Trouble::Unreachable);
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(Watch::open(link.target(), "k").await.is_err());
    assert!(!link.is_up());
    server.signal(Signal::CONT);
    assert_eq!(recovered(&link, "k").await.unwrap(), b"1");
    assert_eq!(link.reconnects(), 1);
}

#[tokio::test]
async fn a_watch_wakes_once_for_a_burst_and_for_every_kind_of_change() {
    let server = Server::start(&["--notify-keyspace-events", "KA"]);
    let link = server.link();
    let mut watch = Watch::open(link.target(), "metrics").await.unwrap();
    let none = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
    assert!(none.is_err(), "nothing has changed yet");

    run(&link, "SET other 3").await.unwrap();
    for line in ["SET metrics 1", "APPEND metrics 2", "PEXPIRE metrics 1", "RENAME other metrics", "DEL metrics"] {
        run(&link, line).await.unwrap();
        woken(&mut watch).await;
        if line.starts_with("PEXPIRE") {
            // expire and expired may come as one wake or as two
            while link.get("metrics").await.unwrap().is_some() {}
            quiet(&mut watch).await;
        }
    }

    for value in 0..100 {
        run(&link, &format!("SET metrics {value}")).await.unwrap();
    }
    run(&link, "SET unrelated 1").await.unwrap();
    let wakes = quiet(&mut watch).await;
    assert!((1..=10).contains(&wakes), "{wakes} wakes for a burst of 100");
}

#[tokio::test]
async fn a_watch_counts_the_values_that_were_written() {
    let server = Server::start(&["--notify-keyspace-events", "KA"]);
    let link = server.link();
    let mut watch = Watch::open(link.target(), "metrics").await.unwrap();
    assert_eq!(watch.caught_up().await.unwrap(), None);
    for line in ["SET metrics 1 EX 100", "PERSIST metrics", "APPEND metrics 2", "SET other 3"] {
        run(&link, line).await.unwrap();
    }
    assert_eq!(watch.caught_up().await.unwrap(), Some(2));
    assert_eq!(watch.caught_up().await.unwrap(), None);
    run(&link, "RENAME other metrics").await.unwrap();
    assert_eq!(watch.caught_up().await.unwrap(), Some(1));
    run(&link, "DEL metrics").await.unwrap();
    assert_eq!(watch.caught_up().await.unwrap(), Some(0), "an event, but no value");
    run(&link, "CLIENT KILL TYPE pubsub").await.unwrap();
    assert_eq!(watch.caught_up().await.unwrap_err().kind(), Trouble::Unreachable);
}

#[tokio::test]
async fn a_watch_that_has_caught_up_has_missed_nothing() {
    let server = Server::start(&["--notify-keyspace-events", "K$"]);
    let link = server.link();
    let mut watch = Watch::open(link.target(), "metrics").await.unwrap();
    for burst in 0..200_u64 {
        let size = burst % 7 + 1;
        let mut pipeline = redis::pipe();
        for value in 0..size {
            pipeline.set("metrics", value).ignore();
        }
        link.pipeline::<()>(&pipeline).await.unwrap();
        assert_eq!(watch.caught_up().await.unwrap(), Some(size));
    }
}

#[tokio::test]
async fn a_watch_reads_binary_keys_of_its_own_database() {
    let server = Server::start(&["--notify-keyspace-events", "K$"]);
    let url = format!("redis://127.0.0.1:{}/4", server.port);
    let link = Link::new(Settings::default().resolve(Some(&url)).unwrap());
    let key = b"a*\xff[x]";
    let mut watch = Watch::open(link.target(), key).await.unwrap();
    let set = redis::cmd("SET").arg(&key[..]).arg(1).take();
    server.link().query::<()>(&set).await.unwrap();
    let other = redis::cmd("SET").arg(&b"ab\xff[x]"[..]).arg(1).take();
    link.query::<()>(&other).await.unwrap();
    assert_eq!(quiet(&mut watch).await, 0);
    link.query::<()>(&set).await.unwrap();
    woken(&mut watch).await;
}

#[tokio::test]
async fn a_watch_ends_with_its_connection() {
    let mut server = Server::start(&["--notify-keyspace-events", "KA"]);
    let link = server.link();
    let mut watch = Watch::open(link.target(), "k").await.unwrap();
    run(&link, "CLIENT KILL TYPE pubsub").await.unwrap();
    let error = tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Trouble::Unreachable);
    assert!(error.to_string().ends_with("closed the connection"), "{error}");
    assert!(watch.changed().await.is_err(), "it stays ended");

    let mut watch = Watch::open(link.target(), "k").await.unwrap();
    server.kill();
    assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_dropped_watch_leaves_no_subscriber() {
    let server = Server::start(&[]);
    let link = server.link();
    let watch = Watch::open(link.target(), "k").await.unwrap();
    let count = redis::cmd("PUBSUB").arg("NUMSUB").arg("__keyspace@0__:k").take();
    let (_, subscribers): (String, u32) = link.query(&count).await.unwrap();
    assert_eq!(subscribers, 1);
    drop(watch);
    let deadline = Instant::now() + PATIENCE;
    while link.query::<(String, u32)>(&count).await.unwrap().1 != 0 {
        assert!(Instant::now() < deadline, "the subscription outlives its watch");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn woken(watch: &mut Watch) {
    tokio::time::timeout(PATIENCE, watch.changed()).await.expect("no notification").unwrap();
}

/// Counts wakes until there is none for a while.
async fn quiet(watch: &mut Watch) -> u32 {
    let mut wakes = 0;
    while tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_ok() {
        wakes += 1;
    }
    wakes
}
