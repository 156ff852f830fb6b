//! The power fails at each write, and a manager is dropped at each await: what is left brings the device online.

use super::stores::{HOURS, assert_record_has_its_keys, key_of_the_record};
use super::*;

/// What a power failure leaves of the write that is under way.
#[derive(Clone, Copy, Debug)]
enum Left {
    Old,
    /// Half of a record. Half a key is none.
    Half,
    New,
}

/// A store whose power fails at one of its writes.
#[derive(Clone, Debug)]
struct Cut {
    shelf: Shelf,
    left: Left,
    /// How many writes are left.
    writes: Arc<Mutex<usize>>,
    failed: watch::Sender<bool>,
}

impl Cut {
    /// Writes what is left, and ends everything if the power fails at this write.
    async fn write(&self, left: impl FnOnce(&Shelf, Left)) {
        let number = {
            let mut writes = self.writes.lock().unwrap();
            *writes = writes.saturating_sub(1);
            *writes
        };
        tokio::task::yield_now().await;
        if number > 0 {
            return left(&self.shelf, Left::New);
        }
        if !self.failed.send_replace(true) {
            left(&self.shelf, self.left);
        }
        std::future::pending().await
    }
}

impl Store for Cut {
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        Store::load(&self.shelf, key)
    }

    fn save<'a>(&'a self, key: &'a str, record: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.write(|shelf, left| match left {
                Left::Old => {}
                Left::Half => shelf.put(key, &record[..record.len() / 2]),
                Left::New => shelf.put(key, &record),
            })
            .await;
            Ok(())
        })
    }
}

impl KeyStore for Cut {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>> {
        KeyStore::load(&self.shelf, name)
    }

    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.write(|shelf, left| match left {
                Left::Old => {}
                Left::Half => drop(shelf.records.lock().unwrap().remove(name)),
                Left::New => shelf.put(name, &key),
            })
            .await;
            Ok(())
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.write(|shelf, left| match left {
                Left::Old => {}
                Left::Half | Left::New => drop(shelf.records.lock().unwrap().remove(name)),
            })
            .await;
            Ok(())
        })
    }
}

/// A life with three certificates: the link is lost, the hub refuses the device, and the back end moves it.
async fn live(options: ManagerOptions) {
    let manager = ProvisioningManager::start(options);
    let mut events = manager.events();
    for _ in 0..2 {
        until(&mut events, Happening::CertificateProven).await;
    }
    manager.reprovision();
    until(&mut events, Happening::CertificateProven).await;
    tokio::time::sleep(HOURS).await;
}

#[tokio::test(start_paused = true)]
async fn a_power_failure_at_any_write_leaves_a_device_that_comes_online() {
    for left in [Left::Old, Left::Half, Left::New] {
        let mut cuts = 0;
        loop {
            let (shelf, (failed, mut fails)) = (Shelf::default(), watch::channel(false));
            let writes = Arc::new(Mutex::new(cuts + 1));
            let cut = Cut { shelf: shelf.clone(), left, writes, failed };
            let service = Service::issuing();
            let hub =
                Hub::new([(Some(Duration::from_secs(60)), EndReason::Lost), (None, EndReason::Refused)]);
            let mut with_cut = options(&service, &shelf, &hub).with_certificates(cut.clone());
            with_cut.store = Arc::new(cut);
            tokio::select! {
                biased;
                _ = fails.wait_for(|failed| *failed) => {}
                () = live(with_cut) => break,
            }
            cuts += 1;

            let registrations = || service.kinds().iter().filter(|kind| **kind == "register").count();
            let before = registrations();
            let good = options(&service, &shelf, &Hub::good()).with_certificates(shelf.clone());
            let manager = ProvisioningManager::start(good);
            until(&mut manager.events(), Happening::Connected).await;
            let again = registrations() - before;
            assert!(again <= 1, "write {cuts}, {left:?}: {again} registrations");
            tokio::time::sleep(HOURS).await;
            manager.stop().await;
            assert_record_has_its_keys(&shelf);
            // A damaged copy may name any key.
            let is_put_aside = shelf.has(&format!("{}-unusable", key_of_the_record()));
            assert!(is_put_aside || shelf.slots().len() == 1, "write {cuts}, {left:?}: {:?}", shelf.slots());
        }
        // For each certificate: two records, a key, the record of the proven one, and a deletion.
        assert!(cuts >= 14, "{left:?}: {cuts} writes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_dropped_at_any_await_leaves_nothing_and_the_next_one_comes_online() {
    let mut cuts = 0;
    loop {
        let service = Service {
            issues: true,
            ..Service::new([Answer::Status(503, None), Answer::Assigned("a.example")])
        };
        let (shelf, hub) = (Shelf::default(), Hub::good());
        let (events, mut seen) = broadcast::channel(MOST_EVENTS);
        let (snapshot, watched) = watch::channel(Snapshot::default());
        let (commands, received) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(None);
        let with_keys = |hub| Arc::new(options(&service, &shelf, hub).with_certificates(shelf.clone()));
        let publisher = Publisher::new(events, snapshot);
        let mut work = Box::pin(run::run(with_keys(&hub), publisher, received, stopped));
        let mut is_asked = false;
        for _ in 0..cuts {
            std::future::poll_fn(|context| {
                let _pending = work.as_mut().poll(context);
                std::task::Poll::Ready(())
            })
            .await;
            tokio::time::advance(Duration::from_millis(300)).await;
            if !is_asked && watched.borrow().state == ProvisioningState::Online {
                is_asked = commands.try_send(()).is_ok();
            }
        }
        drop(work);
        assert_eq!(Arc::strong_count(&hub.seen), 1, "{cuts} polls: a connection is left");
        assert_eq!(Arc::strong_count(&service.asked), 1, "{cuts} polls: a registration is left");
        assert_eq!(watched.borrow().state, ProvisioningState::Stopped);

        let good = options(&service, &shelf, &Hub::good()).with_certificates(shelf.clone());
        let manager = ProvisioningManager::start(good);
        until(&mut manager.events(), Happening::Connected).await;
        manager.stop().await;
        assert_record_has_its_keys(&shelf);

        let mut proven = 0;
        while let Ok(event) = seen.try_recv() {
            proven += usize::from(event.happening == Happening::CertificateProven);
        }
        if proven == 2 && shelf.slots().len() == 1 {
            break;
        }
        cuts += 1;
        assert!(cuts < 1000, "the second certificate is not proven");
    }
    // The calls of the stores and of the service, each of which yields.
    assert!(cuts >= 15, "{cuts}");
}
