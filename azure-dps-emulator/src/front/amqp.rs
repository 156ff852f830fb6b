//! AMQP 1.0: turns messages into calls and answers into messages. It knows the layers of a connection, and no
//! rule of the service.
//!
//! | from the client | answer |
//! | --- | --- |
//! | SASL header | SASL header and the mechanisms |
//! | PLAIN with a token | outcome 0 accepted, 1 refused, 2 and 4 fault |
//! | TPM with the keys of a TPM, enrolled or not | the challenge in two parts; after the token an outcome |
//! | EXTERNAL, or an AMQP header first, with a certificate | accepted; the first link names the device |
//! | an AMQP header first, without a certificate | SASL header, and the connection ends |
//! | link from or to `{idScope}/registrations/{registrationId}` | accepted |
//! | link from or to anything else, or for another device | end and close with an error |
//! | request | accepted, then the reply; or rejected with the error |
//!
//! A refusal is never only a detach, because a client that is attaching its next link may not notice it.

mod address;
mod attach;
mod connection;
mod goodbye;
mod guard;
mod links;
mod message;
mod pipe;
mod replies;
mod sasl;
mod sign_in;
mod values;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use self::connection::{CLOSE_DEADLINE, Connection, End, WRITE_DEADLINE};
use self::goodbye::Goodbye;
use self::guard::Waiting;
use self::replies::Untaken;
use crate::front::peer::Peer;
use crate::instance::Instance;
use crate::state::fault::GARBAGE;

/// Serves one connection until either side ends it.
pub(crate) async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    instance: Arc<Instance>,
) {
    let connection = Connection {
        peer,
        instance,
        waiting: Waiting::default(),
        untaken: Untaken::default(),
        goodbye: Goodbye::default(),
    };
    let end = match connection.greet(&mut stream).await {
        Ok((claim, header)) => connection.carry(&mut stream, claim, header).await,
        Err(end) => end,
    };
    if matches!(end, End::Garbage) {
        // Errors do not matter: the connection ends.
        let _sent = timeout(WRITE_DEADLINE, stream.write_all(GARBAGE.as_bytes())).await;
    }
    if !matches!(end, End::Cut) {
        let _done = timeout(CLOSE_DEADLINE, stream.shutdown()).await;
    }
}
