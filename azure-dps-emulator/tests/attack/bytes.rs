//! Literal frames, packets and requests of an attacker.

pub(crate) const SASL: &[u8] = b"AMQP\x03\x01\0\0";
pub(crate) const AMQP: &[u8] = b"AMQP\0\x01\0\0";

/// A frame of AMQP (0) or SASL (1).
pub(crate) fn frame(kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&length[..], &[2, kind], &channel.to_be_bytes(), body].concat()
}

fn list(members: &[&[u8]]) -> Vec<u8> {
    let content = members.concat();
    let (size, count) = (u32::try_from(4 + content.len()).unwrap(), u32::try_from(members.len()).unwrap());
    [&[0xd0][..], &size.to_be_bytes(), &count.to_be_bytes(), &content].concat()
}

fn described(code: u8, members: &[&[u8]]) -> Vec<u8> {
    [&[0, 0x53, code][..], &list(members)].concat()
}

fn performative(channel: u16, code: u8, members: &[&[u8]]) -> Vec<u8> {
    frame(0, channel, &described(code, members))
}

fn string(text: &str) -> Vec<u8> {
    [&[0xa1, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn number(number: u32) -> Vec<u8> {
    [&[0x70][..], &number.to_be_bytes()].concat()
}

/// SASL PLAIN with an invalid token.
pub(crate) fn plain(token: &str) -> Vec<u8> {
    let response = format!("\0{DEVICE}\0{token}");
    let response = [&[0xa0, u8::try_from(response.len()).unwrap()], response.as_bytes()].concat();
    frame(1, 0, &described(0x41, &[&[0xa3, 5, b'P', b'L', b'A', b'I', b'N'], &response]))
}

pub(crate) fn open() -> Vec<u8> {
    performative(0, 0x10, &[&string("attacker"), &string("localhost")])
}

pub(crate) fn begin(channel: u16) -> Vec<u8> {
    performative(channel, 0x11, &[NULL, ZERO, &number(u32::MAX), &number(u32::MAX)])
}

pub(crate) fn end(channel: u16) -> Vec<u8> {
    performative(channel, 0x17, &[])
}

/// A link for requests under an even handle, one for replies under an odd one.
pub(crate) fn attach(channel: u16, handle: u32) -> Vec<u8> {
    let name = string(&format!("link-{channel}-{handle}"));
    let (near, far) = (described(0x28, &[NULL]), described(0x29, &[&string(DEVICE)]));
    let version = [&[0xa3, 25], &b"com.microsoft:api-version"[..], &string("2019-03-31")].concat();
    let version = [&[0xc1, u8::try_from(version.len() + 1).unwrap(), 2][..], &version].concat();
    let (role, source, target): (&[u8], _, _) = match handle % 2 {
        0 => (FALSE, near, far),
        _ => (TRUE, described(0x28, &[&string(DEVICE)]), described(0x29, &[NULL])),
    };
    let members: [&[u8]; 14] = [
        &name,
        &number(handle),
        role,
        NULL,
        NULL,
        &source,
        &target,
        NULL,
        NULL,
        ZERO,
        NULL,
        NULL,
        NULL,
        &version,
    ];
    performative(channel, 0x12, &members)
}

pub(crate) fn detach(channel: u16, handle: u32) -> Vec<u8> {
    performative(channel, 0x16, &[&number(handle), TRUE])
}

pub(crate) fn transfer(channel: u16, handle: u32, id: u32, more: bool, payload: &[u8]) -> Vec<u8> {
    let tag = [&[0xa0, 4][..], &id.to_be_bytes()].concat();
    let more = if more { TRUE } else { FALSE };
    let transfer = described(0x14, &[&number(handle), &number(id), &tag, ZERO, FALSE, more]);
    frame(0, channel, &[&transfer[..], payload].concat())
}

/// A request to register.
pub(crate) fn ask(id: u32) -> Vec<u8> {
    let name = string(&format!("{id:04}"));
    let operation = [string("iotdps-operation-type"), string("iotdps-register")].concat();
    let operation = [&[0xc1, u8::try_from(operation.len() + 1).unwrap(), 2][..], &operation].concat();
    let body = br#"{"registrationId":"dev-1"}"#;
    let message = [
        &described(0x73, &[&name, NULL, NULL, NULL, NULL, &name])[..],
        &[0, 0x53, 0x74],
        &operation,
        &[0, 0x53, 0x75, 0xa0, u8::try_from(body.len()).unwrap()],
        body,
    ];
    transfer(0, 0, id, false, &message.concat())
}

/// Credit for replies on a link, in a session with an incoming window of `window`.
pub(crate) fn credit(channel: u16, handle: u32, window: u32) -> Vec<u8> {
    let (all, zero) = (number(u32::MAX), number(0));
    performative(channel, 0x13, &[&zero, &number(window), &zero, &all, &number(handle), &zero, &all])
}

/// A flow that requests an answer (`echo`).
pub(crate) fn echo(channel: u16) -> Vec<u8> {
    let (window, zero) = (number(u32::MAX), number(0));
    performative(
        channel,
        0x13,
        &[&zero, &window, &zero, &window, &zero, &zero, &number(10), NULL, NULL, TRUE],
    )
}

/// A CONNECT of the device without a keep-alive.
pub(crate) fn connect() -> Vec<u8> {
    connect_as("2019-03-31")
}

/// The same with another api-version.
pub(crate) fn connect_as(api_version: &str) -> Vec<u8> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let user = format!("{DEVICE}/api-version={api_version}");
    let body = [&text("MQTT")[..], &[4, 0x82, 0, 0], &text("dev-1"), &text(&user)].concat();
    [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

/// A CONNECT of the device to this hub, with its certificate.
pub(crate) fn connect_to_hub(hub: &str) -> Vec<u8> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let user = format!("{hub}/dev-1/?api-version=2021-04-12");
    let body = [&text("MQTT")[..], &[4, 0x82, 0, 0], &text("dev-1"), &text(&user)].concat();
    [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

pub(crate) fn subscribe() -> Vec<u8> {
    subscribe_to("$dps/registrations/res/#")
}

pub(crate) fn subscribe_to(filter: &str) -> Vec<u8> {
    let length = u8::try_from(filter.len()).unwrap();
    [&[0x82, length + 5, 0, 1, 0, length], filter.as_bytes(), &[1]].concat()
}

/// A request to register over MQTT.
pub(crate) fn publish(payload: &[u8]) -> Vec<u8> {
    publish_to("$dps/registrations/PUT/iotdps-register/?$rid=1", payload)
}

pub(crate) fn publish_to(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut length = 2 + topic.len() + payload.len();
    let mut packet = vec![0x30];
    while length > 0x7f {
        packet.push(0x80 | u8::try_from(length & 0x7f).unwrap());
        length >>= 7;
    }
    packet.push(u8::try_from(length).unwrap());
    packet.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
    [&packet, topic.as_bytes(), payload].concat()
}

pub(crate) fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: {SERVICE}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A masked message of a WebSocket, whose mask changes nothing.
pub(crate) fn binary(payload: &[u8]) -> Vec<u8> {
    let length = match u16::try_from(payload.len()).unwrap() {
        short @ ..126 => vec![0x80 | u8::try_from(short).unwrap()],
        long => [&[0xfe], &long.to_be_bytes()[..]].concat(),
    };
    [&[0x82][..], &length, &[0; 4], payload].concat()
}

/// The answer of the program to an accepted client.
pub(crate) const CONNACK: &[u8] = &[0x20, 2, 0, 0];
pub(crate) const ATTACHED: &[u8] = &[0, 0x53, 0x12];
const DEVICE: &str = "0ne00EMU1A7/registrations/dev-1";
/// Signed with the key of the default policy.
pub(crate) const SERVICE: &str = "SharedAccessSignature sr=localhost&sig=fKT4xk%2BZLj1uxZzFcfAmLftBywuB9Y7c9SWGxupnvrE%3D&skn=provisioningserviceowner&se=4102444800";
const NULL: &[u8] = &[0x40];
const TRUE: &[u8] = &[0x41];
const FALSE: &[u8] = &[0x42];
const ZERO: &[u8] = &[0x43];
