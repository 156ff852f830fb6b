#![doc = include_str!("../README.md")]

pub use azure_dps_core as core;

#[cfg(feature = "client")]
mod answer;

#[cfg(feature = "client")]
mod bulk;

#[cfg(feature = "client")]
mod call;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
pub use client::{ServiceClient, ServiceClientBuilder};

#[cfg(feature = "client")]
mod collection;
#[cfg(feature = "client")]
pub use collection::Collection;

#[cfg(feature = "client")]
mod credential;
#[cfg(feature = "client")]
pub use credential::Credential;
#[cfg(feature = "entra")]
pub use credential::ENTRA_SCOPE;

#[cfg(feature = "client")]
mod gate;

#[cfg(feature = "client")]
mod pages;
#[cfg(feature = "client")]
pub use pages::{Page, Pages, Unreadable};

#[cfg(feature = "client")]
mod pipeline;

#[cfg(feature = "client")]
mod request;

#[cfg(feature = "client")]
mod resource;
#[cfg(feature = "client")]
pub use resource::{Enrollment, Resource};

#[cfg(feature = "client")]
mod settle;

#[cfg(feature = "client")]
mod since;

#[cfg(feature = "client")]
mod update;

pub mod webhook;
