// Cargo.toml: azure-dps-device, and tokio with the features macros and rt-multi-thread.
// Run it with the variables of "Environment".
use azure_dps_device::DeviceClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = DeviceClient::from_env()?;
    let assignment = device.register().await?;
    println!("{} {}", assignment.hub(), assignment.device_id());
    Ok(())
}
