//! The SDK against the emulator. It means something only because each passed its own tests before.

mod auto;
mod conformance;
mod identity;
mod proxy;
mod service;
mod throttling;
