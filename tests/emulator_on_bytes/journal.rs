//! The query of `GET /journal`: filters, cursors and waiting.

use std::time::Duration;

use azure_dps_emulator::Emulator;
use azure_dps_tests::emulated::Emulated;
use azure_dps_tests::http_client::{Reply, ask_in_clear};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn the_journal_is_filtered_by_id_status_and_number() {
    let peer = journalled().await;

    for (query, wanted) in [
        ("", vec![1, 2, 3, 4]),
        ("?id=a", vec![1, 3]),
        ("?id=A&status=200", vec![1, 3]),
        ("?id=%61", vec![1, 3]),
        ("?id=c", vec![]),
        ("?status=404", vec![4]),
        ("?status=2xx", vec![1, 2, 3]),
        ("?status=4XX", vec![4]),
        ("?status=5xx", vec![]),
        ("?since=2", vec![3, 4]),
        ("?since=4", vec![]),
        ("?since=2&id=a&wait=300", vec![3]),
        ("?since=1000", vec![1, 2, 3, 4]),
    ] {
        assert_eq!(numbers(&ask(&peer, query).await), wanted, "{query}");
    }
}

#[tokio::test]
async fn what_the_query_of_the_journal_cannot_mean_is_refused_with_the_value() {
    let peer = journalled().await;
    for (query, wanted) in [
        ("top=1", "/journal knows no query member such as top; it has id, status, since, wait"),
        ("id=a&id=b", "id is given twice"),
        ("id=", "id must be a registration, enrollment, group or device ID; it is empty"),
        ("id=%zz", "id must be UTF-8 with `%` and two digits for some bytes; it is %zz"),
        ("status=6xx", "status must be 100 to 599, or a class such as 4xx; it is 6xx"),
        (
            "since=-1",
            "since must be the number of an entry, or the Journal-Next of an earlier answer; it is -1",
        ),
        ("wait=301", "wait must be a whole number of seconds, at most 300; it is 301"),
        ("wait=1e1", "wait must be a whole number of seconds, at most 300; it is 1e1"),
    ] {
        let refused = ask(&peer, &format!("?{query}")).await;
        assert_eq!((refused.status, &refused.body["message"]), (400, &json!(wanted)));
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_first_entry_that_matches() {
    let peer = journalled().await;
    let next = ask(&peer, "?id=a").await.header("journal-next").unwrap().to_owned();
    let query = format!("?id=a&status=404&since={next}&wait=300");

    let (found, ()) = tokio::join!(ask(&peer, &query), async {
        peer.service("GET", "/enrollments/b", "").await;
        peer.service("DELETE", "/enrollments/a", "").await;
        peer.service("GET", "/enrollments/a", "").await;
    });

    assert_eq!(numbers(&found), [7]);
    assert!(found.header("journal-next").unwrap().ends_with("-7"));
    assert_eq!(found.header("journal-dropped"), Some("0"));
}

#[tokio::test]
async fn a_wait_ends_without_an_entry_at_its_deadline() {
    let peer = journalled().await;

    let found = ask(&peer, "?id=c&wait=1").await;

    assert_eq!((found.status, &found.body), (200, &json!([])));
    assert!(found.header("journal-next").unwrap().ends_with("-4"));
}

#[tokio::test]
async fn a_reset_ends_a_wait_and_the_reader_begins_anew() {
    let peer = journalled().await;
    let before = ask(&peer, "").await.header("journal-next").unwrap().to_owned();

    let from_before = format!("?since={before}&wait=300");
    let (waited, ()) = tokio::join!(ask(&peer, &from_before), async {
        // The wait has begun, or the cursor is from before the reset. The outcome is the same.
        peer.emulator.reset();
    });
    assert_eq!((waited.status, &waited.body), (200, &json!([])));
    let anew = waited.header("journal-next").unwrap();
    assert_ne!(anew, before);

    peer.service("GET", "/enrollments/a", "").await;
    let query = format!("?since={anew}&wait=300");
    assert_eq!(numbers(&ask(&peer, &query).await), [1]);
    assert_eq!(numbers(&ask(&peer, &from_before).await), [1], "the old cursor misses nothing");
}

#[tokio::test]
async fn waits_are_limited_and_one_that_is_given_up_makes_room() {
    let peer = journalled().await;
    let port = peer.emulator.manage_port().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = format!("GET /journal?id=none&wait=300 HTTP/1.1\r\n{LOCAL}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        waiting.push(stream);
    }

    let refused = timeout(PATIENCE, async {
        loop {
            let refused = ask(&peer, "?id=none&wait=1").await;
            if refused.status != 200 {
                return refused;
            }
        }
    });
    let refused = refused.await.expect("a 65th wait is refused");
    assert_eq!(refused.status, 429);
    let message = refused.body["message"].as_str().unwrap();
    assert!(message.starts_with("64 requests wait for entries of the journal already: "), "{message}");
    assert_eq!(numbers(&ask(&peer, "?id=a&wait=300").await), [1, 3], "nothing has to be waited for");

    drop(waiting);
    let admitted = timeout(PATIENCE, async {
        while ask(&peer, "?id=none&wait=1").await.status != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    });
    admitted.await.expect("the connections that were closed make room");
}

/// An emulator whose journal has four entries: two of enrollment `a`, one of `b`, and a 404.
async fn journalled() -> Emulated {
    let peer = Emulated::start(Emulator::builder().manage_port(0)).await;
    peer.enroll("a", json!({})).await;
    peer.enroll("b", json!({})).await;
    assert_eq!(peer.service("GET", "/enrollments/a", "").await.status, 200);
    assert_eq!(peer.service("GET", "/enrollments/missing", "").await.status, 404);
    peer
}

async fn ask(peer: &Emulated, query: &str) -> Reply {
    let port = peer.emulator.manage_port().unwrap();
    ask_in_clear(port, "GET", &format!("/journal{query}"), LOCAL, "").await
}

fn numbers(reply: &Reply) -> Vec<u64> {
    let entries = reply.body.as_array().unwrap_or_else(|| panic!("{}", reply.text));
    entries.iter().map(|entry| entry["seq"].as_u64()).map(Option::unwrap).collect()
}

const LOCAL: &str = "Host: localhost\r\n";
const PATIENCE: Duration = Duration::from_secs(60);
