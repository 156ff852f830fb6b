//! Carries out the operations of the device API, the back-end API and the hubs on the state.

pub(crate) mod back_end;
pub(crate) mod bulk;
pub(crate) mod certificate;
pub(crate) mod device;
pub(crate) mod hub;
pub(crate) mod listing;
pub(crate) mod placement;
pub(crate) mod webhook;
