//! Entries that are more than a line or a server lets through at once.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Passes everything on, answers of the server at so many bytes a second.
async fn slow_line(server: &RedisServer, bytes_a_second: usize) -> String {
    const PIECE: usize = 16 * 1024;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, port) = (format!("redis://{}/0", listener.local_addr().unwrap()), server.port());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut asks, mut hears), (mut answers, mut takes)) = (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut asks, &mut takes).await });
            tokio::spawn(async move {
                let mut piece = vec![0; PIECE];
                while let Ok(length) = answers.read(&mut piece).await
                    && length > 0
                    && hears.write_all(&piece[..length]).await.is_ok()
                {
                    tokio::time::sleep(Duration::from_secs(1) * u32::try_from(length).unwrap() / bytes_a_second as u32)
                        .await;
                }
            });
        }
    });
    url
}

/// Without asking for less the same entries would be late for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_are_too_large_to_come_at_once_come_in_smaller_batches() {
    const ENTRIES: usize = 24;
    let server = RedisServer::start();
    let large = "x".repeat(250_000);
    for number in 1..=ENTRIES {
        let _: String = server.connection().xadd("in", format!("{number}-0"), &[("data", &large)]).unwrap();
    }
    // all of them take three seconds, and a call that takes two is late
    let url = slow_line(&server, 2_000_000).await;
    let mut source = source(&server, json!({ "url": url, "claim_idle": "1s" })).await;
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    let end = Instant::now() + 4 * PATIENCE;
    while seen.len() < ENTRIES {
        assert!(Instant::now() < end, "only {seen:?}");
        match source.next_batch(100).await {
            Ok(Pull::Batch(batch)) => {
                assert_eq!(deliveries(&batch), vec![1; batch.events.len()]);
                sizes.push(batch.events.len());
                seen.extend(ids(&batch).into_iter().map(str::to_owned));
                settle(batch).await;
            }
            Ok(Pull::Again(after)) => tokio::time::sleep(after).await,
            Ok(Pull::Exhausted) => panic!("exhausted"),
            Err(fault) => assert!(fault.retry(), "{}", fault.chain()),
        }
    }
    assert_eq!(seen, (1..=ENTRIES).map(|number| format!("{number}-0")).collect::<Vec<_>>());
    assert!(sizes.iter().all(|size| *size <= 12), "{sizes:?}");
    assert_eq!(pending(&server), []);
}

/// The server closes the connection of whoever asks for more than it may hold for a client.
#[tokio::test]
async fn entries_that_are_more_than_the_server_lets_through_come_in_smaller_batches() {
    const ENTRIES: usize = 40;
    let server = RedisServer::start();
    let mut redis = server.connection();
    let limit = |limit: &str| {
        let set = ["SET", "client-output-buffer-limit", limit];
        let () = redis::cmd("CONFIG").arg(&set).query(&mut server.connection()).unwrap();
    };
    limit("normal 500000 500000 1");
    let large = "x".repeat(50_000);
    for number in 1..=ENTRIES {
        let _: String = redis.xadd("in", format!("{number}-0"), &[("data", &large)]).unwrap();
    }
    let mut source = source(&server, json!({})).await;
    let mut seen = Vec::new();
    while seen.len() < ENTRIES {
        // no fault is spoken of: it goes better with each try
        match timeout(PATIENCE, source.next_batch(100)).await.expect("an answer").unwrap() {
            Pull::Batch(batch) => {
                assert_eq!(deliveries(&batch), vec![1; batch.events.len()]);
                assert!(batch.events.len() < 10);
                seen.extend(ids(&batch).into_iter().map(str::to_owned));
                settle(batch).await;
            }
            Pull::Again(after) => tokio::time::sleep(after).await,
            Pull::Exhausted => panic!("exhausted"),
        }
    }
    assert_eq!(seen, (1..=ENTRIES).map(|number| format!("{number}-0")).collect::<Vec<_>>());

    // one alone
    let _: String = redis.xadd("in", "100-0", &[("data", "x".repeat(600_000))]).unwrap();
    let sentence = async {
        loop {
            let fault = fails(&mut *source).await;
            if fault.to_string().contains("at each") {
                return fault.to_string();
            }
        }
    };
    assert_eq!(
        timeout(PATIENCE, sentence).await.expect("a name"),
        format!(
            "redis at 127.0.0.1:{} closes the connection at each XCLAIM of entry 100-0 of stream 'in': the answer may be \
             larger than its client-output-buffer-limit; raise that, or remove what is so large",
            server.port()
        )
    );
    limit("normal 0 0 0");
    assert_eq!(ids(&next(&mut *source, 100).await), ["100-0"]);
}
