//! The private keys of certificates during a run: the name of the next one, and the deletion of old ones.

use std::io;
use std::sync::Arc;

use super::{
    BoxFuture, Concern, Deleted, Deletion, Happening, KeyNames, ManagerOptions, Owner, Runner, now, within,
};
use crate::manager::load::look_for_copy;
use crate::manager::store::KeyStore;

/// Looks for the copy of a record that could not be used, if the names of keys depend on it.
pub(super) fn look(
    options: &ManagerOptions,
    owner: &Owner,
    keys: &KeyNames,
    record: Option<Vec<u8>>,
) -> Option<BoxFuture<'static, io::Result<Option<Vec<u8>>>>> {
    let (store, key) = (Arc::clone(&options.store), owner.key());
    let is_needed = options.keys.is_some() && keys.lacks_copy();
    let look = async move { look_for_copy(&*store, &key, record.as_deref()).await };
    is_needed.then(|| Box::pin(look) as BoxFuture<'static, _>)
}

impl Runner {
    pub(super) fn on_looked(&mut self, looked: io::Result<Option<Vec<u8>>>) {
        // Without an answer the keys stay that a copy may name, until the next start.
        if let Ok(copy) = looked {
            self.keys.found_copy(copy.as_deref());
        }
    }

    /// The name for the key of the next certificate.
    pub(super) async fn key_name(&mut self) -> String {
        let Some(store) = self.options.keys.clone() else { return String::new() };
        // The name may be that of a key that is being deleted.
        self.deletion.cancel();
        if let Some(look) = self.look.take() {
            let looked = self.meanwhile(look).await;
            self.on_looked(looked);
        }
        let mut free = self.keys.free(self.driver.memory());
        if !self.keys.is_complete() {
            let unused = without_key(store, free.clone());
            if let Ok(Some(name)) = self.meanwhile(unused).await {
                free = vec![name];
            }
        }
        let name = free.into_iter().next().unwrap_or_default();
        self.keys.take(&name);
        name
    }

    /// Begins to delete the keys that are not in use. Returns when to try again, if that failed.
    pub(super) fn delete_keys(&mut self) -> Option<super::Instant> {
        // The registration under way may have stored a key that the record does not name yet.
        let (Some(store), None, false) = (&self.options.keys, &self.at_service, self.driver.is_stopping())
        else {
            return None;
        };
        self.deletion.begin(store, self.keys.superseded(self.driver.memory()))
    }

    /// Deletes at the end what is not in use, so that no old key stays on a device that is switched off.
    pub(super) async fn end_deletions(&mut self) {
        // Nothing that is under way may use a key.
        self.at_service = None;
        let Some(store) = self.options.keys.clone() else { return };
        let mut deletion = Deletion::new();
        let _retry = deletion.begin(&store, self.keys.superseded(self.driver.memory()));
        if !deletion.is_under_way() {
            return;
        }
        self.deletion.cancel();
        if let Ok(deleted) = self.meanwhile(within(async || Ok(deletion.next().await))).await {
            self.on_deleted(deleted);
        }
    }

    pub(super) fn on_deleted(&mut self, deleted: Deleted) {
        self.keys.deleted(&deleted.names);
        let policy = self.options.policy.stuck;
        match self.deletion.ended(deleted, |failures| policy.pause(failures, self.seed)) {
            Ok(false) => {}
            Ok(true) => self.publisher.recovered(Concern::OldKeys, &self.driver, now()),
            Err(error) => {
                let (happening, error) = (Happening::KeyStoreFailed, Arc::new(error));
                self.publisher.fail(Concern::OldKeys, happening, error, &self.driver, now());
            }
        }
    }
}

/// The first of these names that no key has. An error ends the search.
async fn without_key(store: Arc<dyn KeyStore>, names: Vec<String>) -> io::Result<Option<String>> {
    for name in names {
        if within(|| store.load(&name)).await?.is_none() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
