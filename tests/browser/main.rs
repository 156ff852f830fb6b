//! The page on the emulator's management port, in a real browser.
//!
//! `DPS_BROWSER` names the program of a Chromium, and `DPS_BROWSER_NODE` the folder where `npm ci` installed its
//! driver; `cargo xtask test` does all of it. Without it each test passes without a browser, and the run says so,
//! so that `cargo test` needs Rust only.

// Clippy allows these in test functions only, and the modules are test code too.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod browser;
mod controls;
mod failures;
mod guard;
mod journey;
mod pictures;
mod rows;
mod shape;
mod snippets;
