//! Reads the head of an HTTP response: the status line and the headers, up to the empty line.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The bytes of an HTTP response up to and including the empty line.
pub(crate) enum Head {
    Whole(Vec<u8>),
    TooLong,
}

impl Head {
    /// Reads byte by byte, because the bytes after the head belong to another protocol. Lines may end in LF
    /// alone (RFC 9112, section 2.2).
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() == LONGEST_HEAD {
                return Ok(Self::TooLong);
            }
            head.push(stream.read_u8().await?);
        }
        Ok(Self::Whole(head))
    }
}

/// The status of an HTTP response; `None` if the head is not HTTP.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| matches!(byte, b'\r' | b'\n')).next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then_some(())?;
    rest.get(..3)?.parse().ok()
}

const LONGEST_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\nA: b\r\n\r\n"), Some(407));
        assert_eq!(status(b"HTTP/1.0 407\nA: b\n\n"), Some(407));
        for head in [&b"SSH-2.0\r\n\r\n"[..], b"\r\n\r\n", b"HTTP/1.1 2\r\n\r\n", b"HTTP/1.1 \xff00\r\n\r\n"]
        {
            assert_eq!(status(head), None);
        }
    }

    #[tokio::test]
    async fn a_head_whose_lines_end_in_lf_alone_is_read() {
        for text in ["HTTP/1.1 200 OK\nA: b\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"] {
            let bytes = format!("{text}rest");
            let mut stream = bytes.as_bytes();
            let Head::Whole(head) = Head::read(&mut stream).await.unwrap() else { panic!("too long") };
            assert_eq!((head.as_slice(), stream), (text.as_bytes(), &b"rest"[..]));
        }
    }
}
