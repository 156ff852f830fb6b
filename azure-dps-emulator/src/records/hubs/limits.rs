//! The limits of hubs for messages and calls of methods. Those of the number of calls are the emulator's.

/// The most messages that wait for a device.
pub(crate) const MOST_MESSAGES: usize = 50;
/// The largest message to a device with its properties, in bytes.
pub(crate) const LARGEST_MESSAGE: usize = 64 * 1024;
/// The most calls of methods that wait for a device.
pub(crate) const MOST_CALLS: usize = 16;
/// The largest payload of a call, in bytes of its text.
pub(crate) const LARGEST_PAYLOAD: usize = 128 * 1024;
