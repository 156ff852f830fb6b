//! Tests made of scenarios, one for each client.

/// Makes tests of scenarios, which are functions that take a `Peer`: those in the first braces for every client, the
/// others for one. `Peer` is the one in the module that calls this.
macro_rules! scenarios {
    ($common:tt $($module:ident: $peer:ident $(($transport:literal))? { $($own:ident),* $(,)? })*) => {
        $(scenarios!(@ $module (Peer::$peer $(($transport))?), $common { $($own),* });)*
    };
    (@ $module:ident $peer:expr, { $($common:ident),* $(,)? } { $($own:ident),* }) => {
        mod $module {
            use super::Peer;

            const PEER: Peer = $peer;

            $(#[tokio::test] async fn $common() { super::$common(PEER).await })*
            $(#[tokio::test] async fn $own() { super::$own(PEER).await })*
        }
    };
}
pub(crate) use scenarios;
