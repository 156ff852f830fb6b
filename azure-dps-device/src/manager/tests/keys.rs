//! The private keys of certificates: which ones stay while a record that cannot be used may name them.

use super::stores::{HOURS, assert_record_has_its_keys, key_of_the_record};
use super::*;

/// A record of a later release that names the keys with these numbers.
fn later(numbers: &[u32]) -> Vec<u8> {
    let names: Vec<_> = numbers.iter().map(|number| slot(*number)).collect();
    format!("azure-dps-device-manager 7 of the future\n{names:?}").into_bytes()
}

fn slot(number: u32) -> String {
    format!("dps-{}-{number}", key_of_the_record())
}

fn copy() -> String {
    format!("{}-unusable", key_of_the_record())
}

fn boot(shelf: &Shelf) -> ProvisioningManager {
    let options = options(&Service::issuing(), shelf, &Hub::good());
    ProvisioningManager::start(options.with_certificates(shelf.clone()))
}

/// Boots the device, replaces its certificate a few times, and stops it. Returns the error of the start.
async fn live(shelf: &Shelf) -> Option<String> {
    let manager = boot(shelf);
    let mut events = manager.events();
    let started = timeout(LONG, events.next()).await.unwrap().unwrap();
    until(&mut events, Happening::Connected).await;
    for _ in 0..3 {
        manager.reprovision();
        until(&mut events, Happening::CertificateProven).await;
    }
    tokio::time::sleep(HOURS).await;
    manager.stop().await;
    started.error.map(|error| error.to_string())
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_each_record_that_cannot_be_used_stay_as_long_as_the_record_or_its_copy() {
    let shelf = Shelf::default();
    for numbers in [[1, 2], [6, 7], [3, 10], [9, 1]] {
        let old = shelf.records.lock().unwrap().get(&copy()).is_some();
        shelf.put(&key_of_the_record(), &later(&numbers));
        for number in numbers {
            shelf.put(&slot(number), format!("key {number}").as_bytes());
        }
        // Also after a reboot, with a record of this release beside the copy.
        for boot in 0..2 {
            let why = live(&shelf).await;
            let reports = why.is_some_and(|why| why.contains("replaces an earlier"));
            assert_eq!(reports, old && boot == 0, "{numbers:?}");
            for number in numbers {
                let key = shelf.records.lock().unwrap().get(&slot(number)).cloned();
                assert_eq!(key, Some(format!("key {number}").into_bytes()), "{numbers:?}, boot {boot}");
            }
            assert_eq!(shelf.slots().len(), 3, "those of the copy and the one in use: {:?}", shelf.slots());
        }
    }
    shelf.records.lock().unwrap().remove(&copy());
    live(&shelf).await;
    assert_eq!(shelf.slots().len(), 1, "{:?}", shelf.slots());
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_record_stay_that_can_neither_be_read_nor_be_put_aside_at_the_start() {
    for (loads, copies) in [(3, 0), (3, 2), (0, 3)] {
        let shelf = Shelf::default();
        shelf.put(&copy(), &later(&[1]));
        shelf.put(&key_of_the_record(), &later(&[6]));
        for number in [1, 6] {
            shelf.put(&slot(number), b"old");
        }
        shelf.fail("load", loads);
        shelf.fail("put aside", copies);
        let manager = boot(&shelf);
        let mut events = manager.events();
        until(&mut events, Happening::CertificateProven).await;
        let key = |number| shelf.records.lock().unwrap().get(&slot(number)).cloned();
        assert_eq!(key(6).as_deref(), Some(&b"old"[..]), "{loads} {copies}");
        if copies > 0 {
            assert_eq!(
                key(1).as_deref(),
                Some(&b"old"[..]),
                "{loads} {copies}: the copy has not been replaced"
            );
        }
        drop(manager);
        live(&shelf).await;
        assert_eq!(key(6).as_deref(), Some(&b"old"[..]), "{loads} {copies}");
        assert_eq!(shelf.records.lock().unwrap()[&copy()], later(&[6]));
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_damaged_or_an_empty_record_stay_as_long_as_its_copy() {
    for record in [&b""[..], b"azure-dps-device-manager 1 0\n{", b"\0\0\0\0"] {
        let shelf = Shelf::default();
        shelf.put(&key_of_the_record(), record);
        for number in [1, 2, 8] {
            shelf.put(&slot(number), b"old");
        }
        for boot in 0..2 {
            let why = live(&shelf).await;
            assert_eq!(why.is_some_and(|why| why.contains("damaged")), boot == 0, "{record:?}");
            let old = shelf.records.lock().unwrap().values().filter(|key| **key == b"old").count();
            assert_eq!(old, 3, "{record:?}, boot {boot}");
        }
        shelf.records.lock().unwrap().remove(&copy());
        live(&shelf).await;
        assert_eq!(shelf.slots().len(), 1, "{:?}", shelf.slots());
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_that_a_save_which_failed_may_have_written_to_the_record() {
    let shelf = Shelf::default();
    live(&shelf).await;
    // A registration is saved when it begins and when it has ended. The record is replaced, but the call fails,
    // as when a folder cannot be synchronized.
    for works in [0, 1] {
        let manager = boot(&shelf);
        let mut events = manager.events();
        until(&mut events, Happening::Connected).await;
        shelf.after_save.lock().unwrap().extend((0..10).map(|call| call < works));
        for _ in 0..4 {
            manager.reprovision();
            until(&mut events, Happening::CertificateProven).await;
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_record_has_its_keys(&shelf);
            }
        }
        shelf.after_save.lock().unwrap().clear();
        tokio::time::sleep(HOURS).await;
        manager.stop().await;
        assert_eq!(shelf.slots().len(), 1, "{:?}", shelf.slots());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_when_asked_for_the_copy_delays_neither_the_hub_nor_a_deletion_of_it() {
    let shelf = Shelf::default();
    live(&shelf).await;
    let orphan = slot(9);
    shelf.put(&orphan, b"old");
    for times in [1, 0] {
        shelf.hang("look", times);
        let started = Instant::now();
        let manager = boot(&shelf);
        let mut events = manager.events();
        until(&mut events, Happening::Connected).await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        manager.reprovision();
        until(&mut events, Happening::CertificateProven).await;
        tokio::time::sleep(HOURS).await;
        manager.stop().await;
        assert_eq!(shelf.has(&orphan), times > 0, "a copy may name it while the copy is not known");
    }
    assert_eq!(shelf.slots().len(), 1, "{:?}", shelf.slots());
}
