//! Users, passwords, sockets and encryption.

use super::{EVENT, FUNCTION, PATIENCE};
use crate::support::gaugefn::Gaugefn;
use crate::support::port::Port;
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;
use redis::Commands;
use std::fs::write;
use std::path::Path;
use std::process::Command;

const EXPECTED: &str = r#"{"n": 21}"#;

/// `gaugefn run` with the default deployment's function, and no server named yet.
fn gaugefn() -> Gaugefn {
    Gaugefn::command()
        .args(["run"])
        .env("REDIS_OUTPUT_KEY", "result")
        .env("REDIS_MONITOR_PERIOD", "0.02")
        .env("PYFILE", FUNCTION)
}

/// Runs it against the server behind `connection` until the result is there.
fn stores(mut connection: redis::Connection, gaugefn: Gaugefn) {
    let () = connection.del("result").unwrap();
    let () = connection.set("metrics", EVENT).unwrap();
    let mut running = gaugefn.spawn();
    let found = eventually(PATIENCE, || {
        let ended = running.exited().is_some();
        let value: Option<String> = connection.get("result").unwrap();
        value.map(Some).or(ended.then_some(None))
    });
    assert_eq!(found.flatten().as_deref(), Some(EXPECTED), "{}", running.written());
    assert!(!running.written().contains("s3cret"), "{}", running.written());
}

#[test]
fn a_user_with_a_password() {
    let acl = ["--user", "default", "off", "--user", "app", "on", ">s3cret", "~*", "&*", "+@all"];
    let server = RedisServer::start_with(&acl);
    let port = server.port().to_string();
    let connect = || {
        let url = format!("redis://app:s3cret@127.0.0.1:{port}");
        redis::Client::open(url).unwrap().get_connection().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let (user, password) = (folder.path().join("user"), folder.path().join("password"));
    write(&user, "app\n").unwrap();
    write(&password, "s3cret\n").unwrap();
    let here = || gaugefn().env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", &port);
    stores(connect(), here().env("REDIS_USERNAME", "app").env("REDIS_PASSWORD_FILE", &password));
    stores(connect(), here().env("REDIS_USERNAME_FILE", &user).env("REDIS_PASSWORD_FILE", &password));
    stores(connect(), here().env("REDIS_USERNAME", "app").env("REDIS_PASSWORD", "s3cret"));
    stores(connect(), gaugefn().env("REDIS_URL", format!("redis://app:s3cret@127.0.0.1:{port}/0")));
}

#[test]
fn the_default_users_password() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let url = format!("redis://:s3cret@127.0.0.1:{}", server.port());
    let connect = || redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    let here = gaugefn().env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", server.port().to_string());
    stores(connect(), here.env("REDIS_PASSWORD", "s3cret"));
    stores(connect(), gaugefn().env("REDIS_URL", &url));
}

/// What `base64 -d`, a file of variables and a copied line leave in a variable.
#[test]
fn what_stands_around_a_value_does_no_harm_or_is_named() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let port = server.port().to_string();
    let url = format!("redis://:s3cret@127.0.0.1:{port}");
    let connect = || redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    for end in ["\n", "\r\n", "\r"] {
        let with = |value: &str| format!("{value}{end}");
        let here = gaugefn().env("REDIS_HOST", with("127.0.0.1")).env("REDIS_PORT", with(&port));
        let here = here.env("REDIS_OUTPUT_KEY", with("result")).env("REDIS_MONITOR_PERIOD", with("0.02"));
        stores(connect(), here.env("REDIS_PASSWORD", with("s3cret")));
    }
    let here = || gaugefn().env("REDIS_HOST", " 127.0.0.1\u{a0}").env("REDIS_PORT", format!(" {port} "));
    stores(connect(), here().env("GAUGEFN__REDIS__PASSWORD", "s3cret\n"));
    stores(connect(), gaugefn().env("REDIS_URL", format!("\u{feff} {url} \n")));
    let injected = gaugefn().env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", format!(" tcp://10.0.0.1:{port}\n"));
    stores(connect(), injected.env("REDIS_PASSWORD", "s3cret\n"));

    // it may be a part of the password, so it is tried, and named where it is not
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    for (password, odd) in [
        ("s3cret ", "ends with white space"),
        ("\u{feff}s3cret", "begins with a byte-order mark"),
        ("\"s3cret\"", "is in quotes"),
        ("s3cret\n\n", "ends with a line end"),
    ] {
        write(&file, password).unwrap();
        for refused in [here().env("REDIS_PASSWORD", password), here().env("REDIS_PASSWORD_FILE", &file)] {
            let refused = refused.args(["--require-backend"]).output(PATIENCE);
            assert_eq!(refused.status.code(), Some(69), "{refused:?}");
            let said = format!("REDIS_PASSWORD; the password {odd}, which counts as a part of it");
            assert!(refused.stderr.contains(&said), "{odd}: {}", refused.stderr);
            assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
        }
    }
    let warned = here().env("REDIS_PASSWORD", "s3cret ").args(["--require-backend"]).output(PATIENCE);
    let said = "redis.password ends with white space, which counts as a part of it (from REDIS_PASSWORD)";
    assert!(warned.stderr.contains(said), "{}", warned.stderr);
    write(&file, "\n").unwrap();
    let empty = here().env("REDIS_PASSWORD_FILE", &file).args(["--require-backend"]).output(PATIENCE);
    assert!(empty.stderr.contains("and redis.password_file '") && empty.stderr.contains("' is empty"), "{empty:?}");

    // and one that does end so can be used
    let spaced = RedisServer::start_with(&["--requirepass", "s3cret "]);
    let url = format!("redis://:s3cret%20@127.0.0.1:{}", spaced.port());
    let connect = || redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    let here = gaugefn().env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", spaced.port().to_string());
    stores(connect(), here.env("REDIS_PASSWORD", "s3cret \n"));
}

#[test]
fn connections_are_checked_when_that_is_asked_for() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let check = |password: &str, port: u16, code: &str| {
        Gaugefn::command()
            .args(["check", "--connect"])
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", port.to_string())
            .env("REDIS_PASSWORD", password)
            .env("REDIS_OUTPUT_KEY", "result")
            .env("PYFILE", code)
            .output(PATIENCE)
    };
    let good = check("s3cret", server.port(), FUNCTION);
    let sound = "the configuration is sound, every connection opens, every function loads: function 'default'\n";
    assert_eq!((good.status.code(), good.stdout.as_str(), good.stderr.as_str()), (Some(0), sound, ""));
    let nobody = Port::reserve();
    for (password, port, reason) in [("other", server.port(), "password"), ("s3cret", nobody.number(), "refused")] {
        let bad = check(password, port, FUNCTION);
        assert_eq!((bad.status.code(), bad.stdout.as_str()), (Some(69), ""), "{bad:?}");
        for part in ["functions.default.source: ", "functions.default.sinks.result: ", reason] {
            assert!(bad.stderr.contains(part), "{part}: {bad:?}");
        }
        assert!(!bad.stderr.contains("s3cret"), "{bad:?}");
    }
    // code that cannot be loaded hides nothing, and is what the exit code tells
    let both = check("s3cret", nobody.number(), "def handler(input, context:\n    return input\n");
    assert_eq!((both.status.code(), both.stdout.as_str()), (Some(65), ""), "{both:?}");
    for part in ["functions.default: ", "SyntaxError", "functions.default.source: ", "functions.default.sinks.result: "]
    {
        assert!(both.stderr.contains(part), "{part}: {both:?}");
    }
}

#[test]
fn another_database() {
    let server = RedisServer::start();
    let connect = || {
        let url = format!("redis://127.0.0.1:{}/3", server.port());
        redis::Client::open(url).unwrap().get_connection().unwrap()
    };
    let here = gaugefn().env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", server.port().to_string());
    stores(connect(), here.env("REDIS_DB", "3"));
    stores(connect(), gaugefn().env("REDIS_URL", format!("redis://127.0.0.1:{}/3", server.port())));
    let keys: usize = redis::cmd("DBSIZE").query(&mut server.connection()).unwrap();
    assert_eq!(keys, 0);
}

#[test]
fn a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let server = RedisServer::start_with(&["--unixsocket", &socket]);
    stores(server.connection(), gaugefn().env("REDIS_URL", format!("unix:{socket}")));
}

#[test]
fn encryption_with_a_private_authority() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let tls = Port::reserve();
    let server = RedisServer::start_with(&[
        "--tls-port",
        &tls.number().to_string(),
        "--tls-cert-file",
        &file("redis.crt"),
        "--tls-key-file",
        &file("redis.key"),
        "--tls-ca-cert-file",
        &file("ca.crt"),
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://127.0.0.1:{}/0", tls.number());
    let here = || gaugefn().env("REDIS_URL", &url);
    stores(server.connection(), here().env("GAUGEFN__REDIS__CA_FILE", file("ca.crt")));

    // without the authority the server is not believed
    let refused = here().args(["--require-backend"]).output(PATIENCE);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(refused.stderr.to_lowercase().contains("certificate"), "{refused:?}");
}

/// A certificate authority and a certificate for 127.0.0.1: ca.crt, redis.crt, redis.key.
fn certificates(folder: &Path) {
    let openssl = |words: &[&str]| {
        let output =
            Command::new("openssl").args(words).current_dir(folder).output().unwrap_or_else(|error| {
                panic!("openssl is missing: install it with `apt-get install openssl` ({error})")
            });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    openssl(&[&authority[..], &curve, &["-keyout", "ca.key", "-out", "ca.crt"]].concat());
    let request = ["req", "-subj", "/CN=redis"];
    openssl(&[&request[..], &curve, &["-keyout", "redis.key", "-out", "redis.csr"]].concat());
    write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let signed = ["x509", "-req", "-in", "redis.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(&[&signed[..], &["-days", "2", "-extfile", "names", "-out", "redis.crt"]].concat());
}
