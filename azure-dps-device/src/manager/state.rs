//! The states of a device, as applications see them.

/// The state of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProvisioningState {
    /// The device waits before it registers: for its part of the first-boot window, or after a failure that
    /// passes.
    #[default]
    Waiting,
    /// A registration or a look-up is under way.
    Registering,
    /// The device connects to its hub.
    Connecting,
    /// The device is connected to its hub.
    Online,
    /// The hub could not be reached, or the key of the certificate not read. The device waits before it tries
    /// again.
    Unreachable,
    /// The hub refuses the device. It waits before it asks the service again.
    Refused,
    /// The service refuses the device. It waits before it tries again.
    Stuck,
    /// The manager has stopped.
    Stopped,
}
