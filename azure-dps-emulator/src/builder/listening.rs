//! The settings of where an emulator listens, under which names, and who may manage it.

use std::net::IpAddr;

use crate::builder::EmulatorBuilder;

impl EmulatorBuilder {
    /// Sets the address to listen on; the default is `127.0.0.1`, together with `::1` where the machine has
    /// IPv6.
    ///
    /// On an address that is not a loopback address, other machines can reach the emulator, whose keys are
    /// public; the start then logs warnings about what they can do. The management port has another setting,
    /// [`manage_host`](Self::manage_host). Emulators with the same ports can run on different loopback
    /// addresses, such as `127.0.0.2` and `127.0.0.3`.
    pub fn host(mut self, address: impl Into<IpAddr>) -> Self {
        self.reach.host = address.into();
        self
    }

    /// Adds a DNS name under which clients reach the emulator, such as `dps.example` or the name of a
    /// container. It can be called several times.
    ///
    /// The server certificate is valid for the name, the management port accepts it in `Host`, and the first
    /// name is [`Emulator::host`](crate::Emulator::host), the host of the connection strings. The emulator
    /// does not resolve names: DNS or a hosts file must lead the clients to its address.
    ///
    /// A name that is not a host name, is an IP address or belongs to a linked hub makes the start fail with
    /// [`StartError::DnsName`](crate::StartError::DnsName).
    pub fn dns_name(mut self, name: impl Into<String>) -> Self {
        self.reach.dns_names.push(name.into().to_ascii_lowercase());
        self
    }

    /// Sets the port of HTTPS, which also accepts WebSockets; the default 0 picks a free port.
    pub fn port(mut self, port: u16) -> Self {
        self.reach.port = port;
        self
    }

    /// Sets the port of MQTT; the default 0 picks a free port.
    pub fn mqtt_port(mut self, port: u16) -> Self {
        self.reach.mqtt_port = port;
        self
    }

    /// Sets the port of AMQP; the default 0 picks a free port.
    pub fn amqp_port(mut self, port: u16) -> Self {
        self.reach.amqp_port = port;
        self
    }

    /// Opens the management port, which is plain HTTP; 0 picks a free port.
    ///
    /// Other programs can do there what the methods of [`Emulator`](crate::Emulator) do in this one. By
    /// default it is not opened.
    pub fn manage_port(mut self, port: u16) -> Self {
        self.reach.manage_port = Some(port);
        self
    }

    /// Sets the address of the management port; the default is `127.0.0.1`, together with `::1` where the
    /// machine has IPv6.
    ///
    /// Any other address than a loopback address needs a [`manage_token`](Self::manage_token), or the start
    /// fails with [`StartError::ManageTokenMissing`](crate::StartError::ManageTokenMissing).
    pub fn manage_host(mut self, address: impl Into<IpAddr>) -> Self {
        self.reach.manage_host = address.into();
        self
    }

    /// Sets the token that every request to the management port must carry, except for `GET /health`: as
    /// `Authorization: Bearer TOKEN`, or as the password of basic authentication with any user name. By
    /// default no token is needed.
    ///
    /// A token has 16 to 256 characters: ASCII letters, digits and `-._~+/=`. Another text makes the start
    /// fail with [`StartError::ManageToken`](crate::StartError::ManageToken). Management is plain HTTP, so that
    /// others on the network can read the token.
    pub fn manage_token(mut self, token: impl Into<String>) -> Self {
        self.reach.manage_token = Some(token.into());
        self
    }
}
