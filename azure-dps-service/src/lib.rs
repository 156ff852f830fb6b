#![doc = include_str!("../README.md")]

pub use azure_dps_core as core;

mod client;
pub use client::{ServiceClient, ServiceClientBuilder};

mod collection;
pub use collection::{Collection, Enrollment, Resource};

mod credential;
pub use credential::Credential;

mod pipeline;

mod request;

mod settle;

mod update;
