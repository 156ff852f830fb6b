//! The state as a whole.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /state` | 200, JSON: everything that changes, with all keys; 429 while 4 others read it |
//! | `PUT /state` with the same | 204; 400; 409 for another ID scope or other hubs |
//! | `POST /state/save` | 204; 409 without a data file; 500 if it cannot be written |

use std::error::Error;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;

use super::listing::Listing;
use super::reply::{self, Reply, Routed};
use crate::data_file::SaveError;
use crate::instance::Instance;
use crate::state::saved::{LARGEST, StateError};

pub(super) async fn get(instance: Arc<Instance>) -> Routed {
    let turn = Arc::clone(instance.state_reads()).try_acquire_owned();
    let turn = turn.map_err(|_| (StatusCode::TOO_MANY_REQUESTS, TOO_MANY_READ.to_owned()))?;
    reply::blocking(move || {
        let text = instance.saved().map_err(|error| {
            tracing::error!("{error}");
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        })?;
        let size = text.size();
        // The turn ends when the last piece is sent, or the reader has left.
        let pieces = text.into_pieces().inspect(move |_| {
            let _held = &turn;
        });
        Ok(Reply::Listing(Listing::of(pieces).with_size(size)))
    })
    .await
}

pub(super) async fn put(body: &mut Incoming, instance: Arc<Instance>) -> Routed {
    let writes = Arc::clone(&instance);
    let closed = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the emulator ends".to_owned());
    let _turn = writes.state_writes().acquire().await.map_err(closed)?;
    let text = reply::body(body, LARGEST).await?;
    reply::blocking(move || match instance.restore(&text) {
        Ok(()) => Ok(Reply::Nothing),
        Err(error @ StateError::OtherService(_)) => Err((StatusCode::CONFLICT, error.to_string())),
        Err(error) => Err((StatusCode::BAD_REQUEST, error.to_string())),
    })
    .await
}

pub(super) fn save(instance: &Instance) -> Routed {
    match instance.save() {
        Ok(()) => Ok(Reply::Nothing),
        Err(error @ SaveError::NoFile) => Err((StatusCode::CONFLICT, error.to_string())),
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            let message = format!("{error}{cause}");
            tracing::error!("{message}");
            Err((StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    }
}

const TOO_MANY_READ: &str = "4 requests read the state already: let one of them end";
