//! The SDK against the emulator. It means something only because each passed its own tests before.

// Clippy allows these in test functions only, and the functions beside them are test code too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod access;
mod auto;
mod conformance;
mod hub;
mod identity;
mod listings;
mod manager;
mod numbers;
mod proxy;
mod service;
mod throttling;
