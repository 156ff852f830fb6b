//! The headers that ask for a page of a listing.

/// The headers of a page request, as they were sent.
#[derive(Default)]
pub(crate) struct PageHeaders {
    pub(crate) max_item_count: Option<String>,
    pub(crate) continuation: Option<String>,
}
