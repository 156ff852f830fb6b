//! Messages from the cloud to a device at an emulated hub. Literal topics.

use azure_dps_emulator::{CloudMessage, HubCallError};
use azure_dps_tests::hub_device::*;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, Site};

#[tokio::test]
async fn a_message_arrives_with_its_properties() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(MESSAGES, 0).await;
    let message = CloudMessage::new([0, 255]).with_system_property("mid", "7").with_property("a b", "c&d");

    site.peer.emulator.send_to_device(A, "dev1", message.with_property("bare", "")).unwrap();

    let heard = device.published().await;
    assert_eq!(
        heard.topic,
        "devices/dev1/messages/devicebound/%24.to=%2Fdevices%2Fdev1%2Fmessages%2FdeviceBound&%24.mid=7&\
         a%20b=c%26d&bare"
    );
    assert_eq!((heard.first, heard.payload), (0x30, vec![0, 255]));
}

#[tokio::test]
async fn messages_wait_for_a_device_that_is_offline() {
    let site = assigned().await;
    for body in ["1", "2", "3"] {
        site.peer.emulator.send_to_device(A, "dev1", CloudMessage::new(body)).unwrap();
    }
    assert_eq!(waiting(&site), 3);

    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(MESSAGES, 0).await;

    for body in ["1", "2", "3"] {
        assert_eq!(device.published().await.payload, body.as_bytes());
    }
    device.listen(TWIN_REPLIES, 0).await;
    assert_eq!(waiting(&site), 0, "without an acknowledgement they are taken when they are sent");
}

#[tokio::test]
async fn a_message_is_sent_again_until_it_is_acknowledged() {
    let site = assigned().await;
    for body in ["1", "2"] {
        site.peer.emulator.send_to_device(A, "dev1", CloudMessage::new(body)).unwrap();
    }
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(MESSAGES, 1).await;
    let (first, second) = (device.published().await, device.published().await);
    assert!(first.first == 0x32 && first.id != second.id);
    device.acknowledge(&second).await;
    device.listen(TWIN_REPLIES, 0).await;
    assert_eq!(waiting(&site), 1);
    drop(device);

    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(MESSAGES, 2).await;
    let again = device.published().await;
    assert_eq!(again.payload, b"1", "the acknowledged one does not come again");
    device.acknowledge(&again).await;
    device.listen(TWIN_REPLIES, 0).await;
    assert_eq!(waiting(&site), 0);
}

#[tokio::test]
async fn waiting_messages_are_limited() {
    let site = assigned().await;
    let send = |message| site.peer.emulator.send_to_device(A, "dev1", message);
    assert_eq!(send(CloudMessage::new(vec![0; 65_537])), Err(HubCallError::MessageTooLarge(65_537)));
    for _ in 0..50 {
        send(CloudMessage::new(vec![0; 65_536])).unwrap();
    }
    assert_eq!(send(CloudMessage::new("")), Err(HubCallError::TooManyMessages));

    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(MESSAGES, 1).await;
    for _ in 0..50 {
        let message = device.published().await;
        device.acknowledge(&message).await;
    }
    device.listen(TWIN_REPLIES, 0).await;
    assert_eq!(send(CloudMessage::new("")), Ok(()));
    assert_eq!(device.published().await.payload, b"");
}

fn waiting(site: &Site) -> u64 {
    site.device(A, "dev1")["identity"]["cloudToDeviceMessageCount"].as_u64().unwrap()
}
