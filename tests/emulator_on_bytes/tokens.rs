//! Tokens that another program signed. They end in the year 2100, except those that are meant to be too old.

/// dev1 with `PRIMARY`.
pub(crate) use azure_dps_tests::dev1::NODE as DEV1;

pub(crate) const SERVICE: &str = "SharedAccessSignature sr=localhost&sig=fKT4xk%2BZLj1uxZzFcfAmLftBywuB9Y7c9SWGxupnvrE%3D&skn=provisioningserviceowner&se=4102444800";

pub(crate) const SERVICE_WITH_SCHEME_AND_PORT: &str = "SharedAccessSignature sr=https%3a%2f%2flocalhost%3a8443&sig=jlGefN%2BhbYSSuj4lIve1MQX5pOeI7Q6PzYKai7uJYmA%3D&se=4102444800&skn=provisioningserviceowner";

pub(crate) const SERVICE_WRONG_KEY: &str = "SharedAccessSignature sr=localhost&sig=S2Xf%2F8aiTC1TDrNqo5k1%2BaBcwvazVKYmnJv6NWiGedI%3D&se=4102444800&skn=provisioningserviceowner";

pub(crate) const SERVICE_EXPIRED: &str = "SharedAccessSignature sr=localhost&sig=plTOhR6eSi%2FXsOHUPW2AeenEsxd3vyot6W1wK18Gg3g%3D&se=1767225600&skn=provisioningserviceowner";

pub(crate) const SERVICE_ELSEWHERE: &str = "SharedAccessSignature sr=contoso.azure-devices-provisioning.net&sig=zH97wq8Ixes8nIUhW1LBBU2kEKV2Q6Reo5epiG4FOyE%3D&se=4102444800&skn=provisioningserviceowner";

/// dev1 with `SECONDARY`, encoded in lower case and without a policy.
pub(crate) const DEV1_SECONDARY: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=PlXAUpftK3cdo6C7RH9YYJolsZtsK1tGsZGfYQaoyUU%3D&se=4102444800";

pub(crate) const DEV1_WRONG_KEY: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Y56WKKYjKujgpjttknh1mYAklgi%2Bv1ffS0fHK%2BbcGDs%3D&se=4102444800&skn=registration";

pub(crate) const DEV1_EXPIRED: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Hwku5jSKYzCM%2FgF9q6mmTqm2SCFfszuWlm4YhSJ7Wf4%3D&se=1767225600&skn=registration";

/// sensor-042 with the key derived from `PRIMARY`, from `SECONDARY`, and with `PRIMARY` itself.
pub(crate) const SENSOR: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=IcJC7HuQ7YbgrywaQH%2FwUTvwZlvXuUuUBsORFkDalWs%3D&se=4102444800&skn=registration";

pub(crate) const SENSOR_SECONDARY: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=nAdyNAllIlWNSgBHWGQxdTLX%2F%2BFAcdLACVWaGwWT2dI%3D&se=4102444800&skn=";

pub(crate) const SENSOR_GROUP_KEY: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=tXQG40BeG%2FyDyKXLmOpdvYtiALmv0eVygV%2FrbWw8ypA%3D&se=4102444800&skn=registration";

/// SENSOR-042 with the key derived from `PRIMARY` and the lower-case id.
pub(crate) const SENSOR_UPPER: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2FSENSOR-042&sig=m%2BcueNRnvfnm0FD8ER%2BT1U8q8lqmtcqfe%2BEzpGOiQo8%3D&se=4102444800&skn=registration";
