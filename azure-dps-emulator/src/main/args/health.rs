//! The flags of `health`.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::values;

/// Where a running emulator is, and how long it may take to answer.
#[derive(Args, Debug)]
pub(crate) struct HealthArgs {
    /// The --manage-host of the emulator, or an address that reaches it.
    #[arg(long, value_name = "ADDRESS", default_value = "localhost", value_parser = values::host)]
    pub(crate) manage_host: IpAddr,
    /// The --manage-port of the emulator.
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) manage_port: u16,
    /// How long the emulator may take to answer.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = values::time)]
    pub(crate) timeout: Duration,
}
