//! Values of AMQP 1.0 as bytes: part 1.6 of the specification, as far as the tests need it. No library has a
//! part in it.

/// A value with its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Null,
    Bool(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    Int(i32),
    Binary(Vec<u8>),
    String(String),
    Symbol(String),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// An array of symbols.
    Array(Vec<Value>),
    /// A value with the descriptor of its type.
    Described(u8, Box<Value>),
}

impl Value {
    /// The shortest encoding.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Null => vec![0x40],
            Self::Bool(true) => vec![0x41],
            Self::Bool(false) => vec![0x42],
            Self::Ubyte(number) => vec![0x50, *number],
            Self::Ushort(number) => wide(0x60, &number.to_be_bytes()),
            Self::Uint(0) => vec![0x43],
            Self::Uint(number) => match u8::try_from(*number) {
                Ok(small) => vec![0x52, small],
                Err(_) => wide(0x70, &number.to_be_bytes()),
            },
            Self::Ulong(0) => vec![0x44],
            Self::Ulong(number) => match u8::try_from(*number) {
                Ok(small) => vec![0x53, small],
                Err(_) => wide(0x80, &number.to_be_bytes()),
            },
            Self::Int(number) => wide(0x71, &number.to_be_bytes()),
            Self::Binary(bytes) => sized(0xa0, bytes),
            Self::String(text) => sized(0xa1, text.as_bytes()),
            Self::Symbol(text) => sized(0xa3, text.as_bytes()),
            Self::List(items) if items.is_empty() => vec![0x45],
            Self::List(items) => {
                let content: Vec<u8> = items.iter().flat_map(Self::encode).collect();
                counted(0xc0, items.len(), &content)
            }
            Self::Map(entries) => {
                let encode = |(key, value): &(Self, Self)| [key.encode(), value.encode()].concat();
                let content: Vec<u8> = entries.iter().flat_map(encode).collect();
                counted(0xc1, 2 * entries.len(), &content)
            }
            Self::Array(symbols) => {
                // The constructor of the elements comes once, before all of them.
                let elements = symbols.iter().flat_map(|symbol| symbol.encode().split_off(1));
                counted(0xe0, symbols.len(), &[0xa3].into_iter().chain(elements).collect::<Vec<_>>())
            }
            Self::Described(code, value) => [&[0, 0x53, *code][..], &value.encode()].concat(),
        }
    }

    /// Takes a value from the beginning.
    pub fn take(bytes: &mut &[u8]) -> Self {
        let [code] = take(bytes);
        if code != 0 {
            return Self::take_as(code, bytes);
        }
        let Self::Ulong(code) = Self::take(bytes) else { panic!("a descriptor that is not a number") };
        Self::Described(code.try_into().unwrap(), Box::new(Self::take(bytes)))
    }

    /// Takes what follows this constructor.
    fn take_as(code: u8, bytes: &mut &[u8]) -> Self {
        let of_text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match code {
            0x40 => Self::Null,
            0x41 => Self::Bool(true),
            0x42 => Self::Bool(false),
            0x56 => Self::Bool(take(bytes) == [1]),
            0x50 => Self::Ubyte(u8::from_be_bytes(take(bytes))),
            0x60 => Self::Ushort(u16::from_be_bytes(take(bytes))),
            0x43 => Self::Uint(0),
            0x52 => Self::Uint(u8::from_be_bytes(take(bytes)).into()),
            0x70 => Self::Uint(u32::from_be_bytes(take(bytes))),
            0x44 => Self::Ulong(0),
            0x53 => Self::Ulong(u8::from_be_bytes(take(bytes)).into()),
            0x80 => Self::Ulong(u64::from_be_bytes(take(bytes))),
            0x54 => Self::Int(i8::from_be_bytes(take(bytes)).into()),
            0x71 => Self::Int(i32::from_be_bytes(take(bytes))),
            0xa0 | 0xb0 => Self::Binary(take_sized(code, bytes).to_vec()),
            0xa1 | 0xb1 => Self::String(of_text(take_sized(code, bytes).to_vec())),
            0xa3 | 0xb3 => Self::Symbol(of_text(take_sized(code, bytes).to_vec())),
            0x45 => Self::List(vec![]),
            0xc0 | 0xd0 => Self::List(take_counted(code, bytes, Self::take)),
            0xc1 | 0xd1 => {
                let flat = take_counted(code, bytes, Self::take);
                Self::Map(flat.chunks(2).map(|entry| (entry[0].clone(), entry[1].clone())).collect())
            }
            0xe0 | 0xf0 => {
                let mut element = None;
                Self::Array(take_counted(code, bytes, |bytes| {
                    let element = *element.get_or_insert_with(|| take::<1>(bytes)[0]);
                    Self::take_as(element, bytes)
                }))
            }
            _ => panic!("a value of type {code:#x}"),
        }
    }
}

fn wide(code: u8, number: &[u8]) -> Vec<u8> {
    [&[code], number].concat()
}

/// A text or bytes. The constructor for lengths of four bytes is the one for a single byte, plus 0x10.
fn sized(code: u8, content: &[u8]) -> Vec<u8> {
    match u8::try_from(content.len()) {
        Ok(length) => [&[code, length], content].concat(),
        Err(_) => [&[code + 0x10], &u32_of(content.len())[..], content].concat(),
    }
}

/// Several values. The count is a part of what the length counts.
fn counted(code: u8, count: usize, content: &[u8]) -> Vec<u8> {
    match (u8::try_from(content.len() + 1), u8::try_from(count)) {
        (Ok(length), Ok(count)) => [&[code, length, count], content].concat(),
        _ => [&[code + 0x10], &u32_of(content.len() + 4)[..], &u32_of(count), content].concat(),
    }
}

fn u32_of(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_be_bytes()
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (first, rest) = bytes.split_first_chunk().unwrap();
    *bytes = rest;
    *first
}

/// A length or a count, which has one byte or, by bit 0x10 of the constructor, four.
fn take_number(code: u8, bytes: &mut &[u8]) -> usize {
    if code & 0x10 == 0 { take::<1>(bytes)[0].into() } else { u32::from_be_bytes(take(bytes)) as usize }
}

fn take_sized<'a>(code: u8, bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = take_number(code, bytes);
    let (content, rest) = bytes.split_at(length);
    *bytes = rest;
    content
}

fn take_counted(code: u8, bytes: &mut &[u8], mut item: impl FnMut(&mut &[u8]) -> Value) -> Vec<Value> {
    let mut content = take_sized(code, bytes);
    let count = take_number(code, &mut content);
    let items = (0..count).map(|_| item(&mut content)).collect();
    assert!(content.is_empty(), "{content:?} behind the last item");
    items
}

#[cfg(test)]
mod tests {
    use super::Value;

    /// Source: the encodings in AMQP 1.0, parts 1.3 and 1.6.
    #[test]
    fn values_have_the_encodings_of_the_specification() {
        let symbol = |text: &str| Value::Symbol(text.into());
        for (value, bytes) in [
            (Value::Uint(100), &b"\x52\x64"[..]),
            (Value::Uint(u32::MAX), b"\x70\xff\xff\xff\xff"),
            (Value::Int(-1), b"\x71\xff\xff\xff\xff"),
            (Value::List(vec![Value::Null, Value::Uint(0)]), b"\xc0\x03\x02\x40\x43"),
            (Value::Map(vec![(symbol("a"), Value::Bool(true))]), b"\xc1\x05\x02\xa3\x01a\x41"),
            (Value::Array(vec![symbol("PLAIN"), symbol("A")]), b"\xe0\x0a\x02\xa3\x05PLAIN\x01A"),
            (Value::Described(0x28, Box::new(Value::List(vec![]))), b"\0\x53\x28\x45"),
        ] {
            assert_eq!(value.encode(), bytes, "{value:?}");
            let mut rest = bytes;
            assert_eq!((Value::take(&mut rest), rest), (value, &b""[..]));
        }
        let long = Value::List(vec![Value::Binary(vec![7; 300])]);
        let bytes = long.encode();
        assert_eq!(bytes[..14], *b"\xd0\0\0\x01\x35\0\0\0\x01\xb0\0\0\x01\x2c");
        assert_eq!(Value::take(&mut bytes.as_slice()), long);
    }
}
