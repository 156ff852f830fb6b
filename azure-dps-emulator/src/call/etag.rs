//! Compares the etag of a record with the header `If-Match`.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::refusal::{PRECONDITION_FAILED, Refusal};

/// Compares the tag of a record with an `If-Match` header.
///
/// The header can contain the tag as the service returns it, or the text inside it. One pair of quotes is
/// ignored on either side, because some clients add quotes, even to the wildcard.
pub(crate) fn check_tag(stored: &str, if_match: &str) -> Result<(), Refusal> {
    let wanted = unquote(if_match.trim());
    if wanted == "*" || opened(wanted) == opened(unquote(stored)) {
        return Ok(());
    }
    let cause = format!("If-Match is {if_match}, the record has {stored}");
    Err(Refusal::new(PRECONDITION_FAILED, "ETag is invalid").because(cause))
}

pub(crate) fn unquote(tag: &str) -> &str {
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

/// The text inside a tag, if it is base64 of a quoted text.
pub(crate) fn opened(tag: &str) -> Cow<'_, str> {
    let text = BASE64_STANDARD.decode(tag).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let inside = text.as_deref().and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
    inside.map_or(Cow::Borrowed(tag), |inside| Cow::Owned(inside.to_owned()))
}
