//! Bytes that begin like certificates or certificate signing requests and nest as deeply as their size allows.

/// Nested values, each with this tag, in about `bytes` bytes.
pub(crate) fn nested(tag: u8, bytes: usize) -> Vec<u8> {
    // Built backwards from the innermost value, so that no level copies the others.
    let mut backwards = Vec::with_capacity(bytes + 8);
    while backwards.len() < bytes {
        let length = backwards.len();
        backwards.extend(prefix(tag, length).iter().rev());
    }
    backwards.reverse();
    backwards
}

/// The nested value as a whole certificate, and in each field that can contain any value.
pub(crate) fn certificates(tag: u8, bytes: usize) -> Vec<Vec<u8>> {
    let deep = nested(tag, bytes);
    let name = sequence(&[]);
    let extension = |oid: &[u8]| {
        let extension = sequence(&[&tlv(6, oid), &tlv(4, &deep)]);
        certificate(&name, &name, &key(&[]), &tlv(0xa3, &sequence(&[&extension])))
    };
    let mut all = vec![
        deep.clone(),
        certificate(&deep, &name, &key(&[]), &[]),
        certificate(&name, &deep, &key(&[]), &[]),
        certificate(&name, &sequence(&[&deep]), &key(&[]), &[]),
        certificate(&name, &name, &key(&deep), &[]),
        certificate(&name, &name, &deep, &[]),
        certificate(&name, &name, &key(&[]), &deep),
    ];
    // Key identifiers, usages, names, constraints, policies and their like.
    all.extend(
        [14, 15, 17, 18, 19, 30, 31, 32, 33, 35, 36, 37, 54].map(|number| extension(&[0x55, 0x1d, number])),
    );
    all.extend([1, 11].map(|number| extension(&[0x2b, 6, 1, 5, 5, 7, 1, number])));
    all
}

/// The nested value as a whole certificate signing request, and in each field that can contain any value.
pub(crate) fn requests(tag: u8, bytes: usize) -> Vec<Vec<u8>> {
    let deep = nested(tag, bytes);
    let name = sequence(&[]);
    let attribute = |oid: &[u8]| tlv(0xa0, &sequence(&[&tlv(6, oid), &tlv(0x31, &deep)]));
    let extension = sequence(&[&tlv(6, &[0x55, 0x1d, 17]), &tlv(4, &deep)]);
    let extensions = tlv(0x31, &sequence(&[&extension]));
    let extension_request = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
    vec![
        deep.clone(),
        signing_request(&deep, &key(&[]), &tlv(0xa0, &[])),
        signing_request(&sequence(&[&deep]), &key(&[]), &tlv(0xa0, &[])),
        signing_request(&name, &key(&deep), &tlv(0xa0, &[])),
        signing_request(&name, &deep, &tlv(0xa0, &[])),
        signing_request(&name, &key(&[]), &tlv(0xa0, &deep)),
        signing_request(&name, &key(&[]), &attribute(&extension_request)),
        signing_request(&name, &key(&[]), &attribute(&[0x2a, 3])),
        signing_request(&name, &key(&[]), &tlv(0xa0, &sequence(&[&tlv(6, &extension_request), &extensions]))),
    ]
}

fn signing_request(subject: &[u8], key: &[u8], attributes: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
    let signed = sequence(&[&tlv(2, &[0]), subject, key, attributes]);
    sequence(&[&signed, &algorithm, &tlv(3, &[0, 1])])
}

fn certificate(issuer: &[u8], subject: &[u8], key: &[u8], extensions: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
    let time = tlv(0x17, b"300101000000Z");
    let signed = sequence(&[
        &tlv(0xa0, &tlv(2, &[2])),
        &tlv(2, &[1]),
        &algorithm,
        issuer,
        &sequence(&[&time, &time]),
        subject,
        key,
        extensions,
    ]);
    sequence(&[&signed, &algorithm, &tlv(3, &[0, 1])])
}

/// A public key of P-256 whose algorithm has these parameters.
fn key(parameters: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), parameters]);
    sequence(&[&algorithm, &tlv(3, &[&[0, 4][..], &[1; 64]].concat())])
}

fn sequence(members: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &members.concat())
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&prefix(tag, content.len())[..], content].concat()
}

fn prefix(tag: u8, length: usize) -> Vec<u8> {
    let bytes = u32::try_from(length).unwrap().to_be_bytes();
    match length {
        0..0x80 => vec![tag, bytes[3]],
        0x80..0x100 => vec![tag, 0x81, bytes[3]],
        0x100..0x1_0000 => vec![tag, 0x82, bytes[2], bytes[3]],
        _ => vec![tag, 0x83, bytes[1], bytes[2], bytes[3]],
    }
}
