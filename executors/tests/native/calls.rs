//! Many calls.

use std::fs::read_to_string;
use std::time::Duration;

use runtime_core::contract::{Call, Event, Returned};

use crate::bed::open;
use crate::support::libraries::several;
use crate::support::tier::scale;

/// Of this process, in bytes.
fn resident() -> u64 {
    let pages = read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test]
async fn resident_memory_stays_flat_over_millions() {
    const BATCH: usize = 64;
    let (warm, many) = (20_000, scale(10_000_000, 500_000));
    let library = several();
    for handler in ["loud", "handler"] {
        let mut function = open(&library, handler).await;
        let events: Vec<_> = (0..BATCH).map(|n| Event::new(format!("e{n}"), format!("[{n}]").into_bytes())).collect();
        let mut results = 0;
        let mut before = 0;
        // half of them in each form
        for n in (0..(warm + many / 2)).step_by(BATCH) {
            if before == 0 && n >= warm {
                before = resident();
            }
            let outcomes = function.invoke(&events, Call::default()).await.unwrap();
            results += outcomes.iter().filter(|outcome| matches!(outcome.returned, Returned::Output(_))).count();
        }
        let after = resident();
        assert_eq!(results, (warm + many / 2).div_ceil(BATCH) * BATCH);
        assert!(after < before + (1 << 20), "{handler}: {before} bytes became {after}");
        function.close(Duration::from_secs(10)).await.unwrap();
    }
}
