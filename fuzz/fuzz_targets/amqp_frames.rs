//! What passes the guard before the AMQP library: the same in whatever pieces it comes, whole frames of what came, and
//! nothing that the library's decoder does not survive.
#![no_main]

use azure_dps_device::fuzzing::amqp_frames;
use azure_dps_fuzz::Script;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    let (whole, all) = amqp_frames(std::iter::once(script.says));
    let (bytewise, to_the_end) = amqp_frames(script.says.chunks(1));
    assert_eq!(all, to_the_end);
    // In one piece nothing passes of what is refused in the end.
    assert!(bytewise.starts_with(&whole) && script.says.starts_with(&bytewise));
    if let Some((b"AMQP\0\x01\0\0", mut frames)) = bytewise.split_first_chunk() {
        while let Some((length, _)) = frames.split_first_chunk() {
            let (frame, rest) = frames.split_at(u32::from_be_bytes(*length) as usize);
            if let Some(body) = frame.get(8..) {
                let _: Result<serde_amqp::Value, _> = serde_amqp::from_slice(body);
            }
            frames = rest;
        }
    }
});
