//! HTTP/1.1 as literal bytes: reading a request or an answer, and looking into its text.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The value of a header in the literal text of a request.
pub fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let head = request.split("\r\n\r\n").next()?;
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

/// The body in the literal text of a request.
pub fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// One HTTP/1.1 request: the head, and as much body as its `content-length` says.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").map_or(0, |value| value.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
        }
    }
}

/// One HTTP/1.1 answer: its head, and its body whether it comes with its length or in chunks.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    try_read_answer(stream).await.unwrap()
}

/// The same, or why the answer did not arrive.
pub(crate) async fn try_read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, String)> {
    let head = read_until(stream, b"\r\n\r\n").await?;
    let body = try_read_body(stream, &head).await?;
    Ok((head, body))
}

/// The body behind this head.
pub async fn read_body(stream: &mut (impl AsyncRead + Unpin), head: &str) -> String {
    try_read_body(stream, head).await.unwrap()
}

async fn try_read_body(stream: &mut (impl AsyncRead + Unpin), head: &str) -> io::Result<String> {
    let mut body = Vec::new();
    if header(head, "transfer-encoding") == Some("chunked") {
        loop {
            let length = read_until(stream, b"\r\n").await?;
            let length = usize::from_str_radix(length.trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            stream.read_exact(&mut chunk).await?;
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    } else if let Some(length) = header(head, "content-length") {
        body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await?;
    }
    Ok(String::from_utf8(body).unwrap())
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        bytes.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(bytes).unwrap())
}
