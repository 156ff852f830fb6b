#![doc = include_str!("../README.md")]

pub use azure_dps_core as core;

mod bulk;

mod call;

mod client;
pub use client::{ServiceClient, ServiceClientBuilder};

mod collection;
pub use collection::{Collection, Enrollment, Resource};

mod credential;
pub use credential::Credential;
#[cfg(feature = "entra")]
pub use credential::ENTRA_SCOPE;

mod gate;

mod pages;
pub use pages::{Page, Pages, Unreadable};

mod pipeline;

mod request;

mod settle;

mod update;

pub mod webhook;
