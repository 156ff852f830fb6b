//! Listings: a stream of records, or page by page.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use azure_dps_core::models::DeviceRegistrationState;
use azure_dps_core::{Error, ErrorKind, Result};
use futures_core::Stream;
use serde_json::Value;

use crate::answer::decode;
use crate::collection::Collection;
use crate::pipeline::Pipeline;
use crate::request::{Operation, PageRequest};
use crate::resource::{Enrollment, Resource};

impl<R: Enrollment> Collection<R> {
    /// Lists all records of this kind, as a [`Stream`] or page by page. The first request is sent when the
    /// first item is polled.
    ///
    /// The service ignores the query text and lists everything; filter the result. As with
    /// [`get`](Self::get), symmetric keys are hidden. Unlike there, `registration_state` is empty.
    ///
    /// Right: `EnrollmentRead`. Billed: one call for each page.
    ///
    /// ```no_run
    /// use futures_util::TryStreamExt as _;
    ///
    /// # async fn example(service: azure_dps_service::ServiceClient) -> azure_dps_service::core::Result<()> {
    /// let mut enrollments = service.enrollments().list();
    /// while let Some(enrollment) = enrollments.try_next().await? {
    ///     println!("{}", enrollment.registration_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "query")]
    #[doc(alias = "createIndividualEnrollmentQuery")]
    #[doc(alias = "createEnrollmentGroupQuery")]
    pub fn list(&self) -> Pages<R> {
        let query = format!("SELECT * FROM {}", R::COLLECTION);
        Pages::new(Arc::clone(&self.pipeline), Listing::All, Some(query))
    }
}

impl Collection<DeviceRegistrationState> {
    /// Lists the registration records of the devices that registered through a group, as a [`Stream`] or page
    /// by page.
    ///
    /// The records of a deleted group remain until each of them is deleted. The service has no list of all
    /// records of an instance; [`get`](Self::get) of an individual enrollment includes its record.
    ///
    /// Right: `RegistrationStatusRead`. Billed: one call for each page.
    #[doc(alias = "query")]
    #[doc(alias = "createEnrollmentGroupDeviceRegistrationStateQuery")]
    pub fn of_group(&self, group_id: &str) -> Pages<DeviceRegistrationState> {
        Pages::new(Arc::clone(&self.pipeline), Listing::OfGroup(group_id.to_owned()), None)
    }
}

/// A listing: a [`Stream`] of its items, or page by page with [`next_page`](Self::next_page).
///
/// A record that cannot be parsed does not end the listing: the stream yields an error of kind
/// [`ErrorKind::Protocol`] that names its id, and continues; a page has it in
/// [`unreadable`](Page::unreadable). After any other error the stream ends. Either continue after an error
/// until the stream ends, or stop at the first one, as `try_next` and `try_collect` do. Dropping a future of
/// [`next_page`](Self::next_page) loses nothing: the next call continues with the same page.
#[must_use = "a listing sends no request before its first item is polled"]
pub struct Pages<R> {
    pipeline: Arc<Pipeline>,
    listing: Listing,
    /// The next request.
    next: PageRequest,
    ended: bool,
    fetching: Option<Fetching<R>>,
    /// The items of the last page that the stream has not yielded yet.
    items: VecDeque<Result<R, Unreadable>>,
    failed: bool,
    /// The hashes of the continuations so far, to detect a repeated one.
    followed: HashSet<u64>,
    hasher: RandomState,
}

type Fetching<R> = Pin<Box<dyn Future<Output = Result<Fetched<R>>> + Send>>;

/// A page as received: its items in order, and the continuation of the next page.
type Fetched<R> = (VecDeque<Result<R, Unreadable>>, Option<String>);

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<R> {
    /// The items. A page may be empty although further pages follow.
    pub items: Vec<R>,
    /// The items that cannot be parsed.
    pub unreadable: Vec<Unreadable>,
    /// The continuation of the next page, for [`Pages::resume`]; `None` after the last page. It is opaque,
    /// and another process can use it too.
    pub continuation: Option<String>,
}

impl<R> Page<R> {
    fn new(all: impl IntoIterator<Item = Result<R, Unreadable>>, continuation: Option<String>) -> Self {
        let mut page = Self { items: Vec::new(), unreadable: Vec::new(), continuation };
        for item in all {
            match item {
                Ok(item) => page.items.push(item),
                Err(unreadable) => page.unreadable.push(unreadable),
            }
        }
        page
    }
}

/// An item of a page that is not of the documented form.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Its id, if that can be parsed. [`Collection::get`] fails for it in the same way.
    pub id: Option<String>,
    /// What is wrong with it, without quoting a value of the item.
    pub why: String,
}

impl Unreadable {
    fn new(item: &Value, why: &serde_json::Error) -> Self {
        let id = ["registrationId", "enrollmentGroupId"].iter().find_map(|name| item.get(name)?.as_str());
        let id = id.map(|id| id.chars().filter(|letter| !letter.is_control()).take(LONGEST_ID).collect());
        Self { id, why: Error::from_json(why).to_string() }
    }
}

impl From<Unreadable> for Error {
    fn from(Unreadable { id, why }: Unreadable) -> Self {
        let which = id.map_or_else(|| "one without an id".to_owned(), |id| format!("{id:?}"));
        Error::new(ErrorKind::Protocol, format!("a record of the listing, {which}, was skipped: {why}"))
    }
}

#[derive(Clone, Debug)]
enum Listing {
    All,
    OfGroup(String),
}

impl<R: Enrollment> Pages<R> {
    /// Sets the query text. The service requires one and ignores its content.
    pub fn query_text(mut self, text: impl Into<String>) -> Self {
        self.next.query = Some(text.into());
        self.fetching = None;
        self
    }
}

impl<R: Resource> Pages<R> {
    fn new(pipeline: Arc<Pipeline>, listing: Listing, query: Option<String>) -> Self {
        Self {
            pipeline,
            listing,
            next: PageRequest { query, ..PageRequest::default() },
            ended: false,
            fetching: None,
            items: VecDeque::new(),
            failed: false,
            followed: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Sets the maximum number of items per page. Default: the service chooses. The service may send fewer.
    pub fn page_size(mut self, items: u32) -> Self {
        self.next.size = Some(items);
        self.fetching = None;
        self
    }

    /// Continues an earlier listing of the same kind at a [`Page::continuation`].
    pub fn resume(mut self, continuation: impl Into<String>) -> Self {
        self.next.continuation = Some(continuation.into());
        (self.ended, self.failed, self.fetching) = (false, false, None);
        self.items.clear();
        self.followed.clear();
        self
    }

    /// Fetches the next page; `None` after the last one. After an error the next call fetches the same page
    /// again.
    ///
    /// ```no_run
    /// # async fn example(service: azure_dps_service::ServiceClient) -> azure_dps_service::core::Result<()> {
    /// let mut pages = service.registrations().of_group("plant-berlin").page_size(50);
    /// while let Some(page) = pages.next_page().await? {
    ///     println!("{} records; continuation: {:?}", page.items.len(), page.continuation);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a page size of 0 or an invalid group id, [`ErrorKind::Service`] when the
    /// service refuses the continuation, [`ErrorKind::Protocol`] when it returns a continuation that it
    /// returned before.
    pub async fn next_page(&mut self) -> Result<Option<Page<R>>> {
        self.failed = false;
        if self.items.is_empty() {
            let fetched = poll_fn(|context| self.poll_page(context)).await.transpose()?;
            return Ok(fetched.map(|(items, continuation)| Page::new(items, continuation)));
        }
        // The items that a stream left.
        let continuation = self.next.continuation.clone().filter(|_| !self.ended);
        Ok(Some(Page::new(self.items.drain(..), continuation)))
    }

    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Fetched<R>>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let fetching = self.fetching.get_or_insert_with(|| {
            Box::pin(fetch(Arc::clone(&self.pipeline), self.listing.clone(), self.next.clone()))
        });
        let fetched = ready!(fetching.as_mut().poll(context));
        self.fetching = None;
        Poll::Ready(Some(fetched.and_then(|page| self.follow(page))))
    }

    /// Moves to the continuation of the page. Without the check for repeated ones, a faulty service could
    /// keep the client in an endless loop.
    fn follow(&mut self, page: Fetched<R>) -> Result<Fetched<R>> {
        let Some(token) = &page.1 else {
            self.ended = true;
            return Ok(page);
        };
        if let Some(from) = &self.next.continuation {
            self.followed.insert(self.hasher.hash_one(from));
        }
        if !self.followed.insert(self.hasher.hash_one(token)) {
            return Err(Error::new(ErrorKind::Protocol, "the service returned the same continuation twice"));
        }
        self.next.continuation = Some(token.clone());
        Ok(page)
    }
}

async fn fetch<R: Resource>(
    pipeline: Arc<Pipeline>,
    listing: Listing,
    page: PageRequest,
) -> Result<Fetched<R>> {
    if page.size == Some(0) {
        return Err(Error::new(ErrorKind::Config, "the page size is 0: set at least 1"));
    }
    let operation = match &listing {
        Listing::All => Operation::query(R::COLLECTION, &page)?,
        Listing::OfGroup(id) => Operation::query_group(id, &page)?,
    };
    let answer = pipeline.call(&operation).await?;
    let continuation =
        answer.header("x-ms-continuation").filter(|token| !token.is_empty()).map(str::to_owned);
    let items: Vec<Value> = decode(&answer)?;
    if items.len() > MOST_ITEMS {
        let message = format!("a page of the service has {} items, more than {MOST_ITEMS}", items.len());
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    let read = |item: Value| R::deserialize(&item).map_err(|why| Unreadable::new(&item, &why));
    Ok((items.into_iter().map(read).collect(), continuation))
}

/// More than the service puts into a page. A record takes a thousand bytes, however small its text is.
const MOST_ITEMS: usize = 10_000;
/// Longer than any id of the service, and short enough that a hostile id does not flood a log.
const LONGEST_ID: usize = 256;

impl<R: Resource> Stream for Pages<R> {
    type Item = Result<R>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Poll::Ready(Some(item.map_err(Error::from)));
            }
            if self.failed {
                return Poll::Ready(None);
            }
            match ready!(self.poll_page(context)) {
                None => return Poll::Ready(None),
                Some(Ok((items, _))) => self.items = items,
                Some(Err(error)) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// No field is pinned in place.
impl<R> Unpin for Pages<R> {}

impl<R> fmt::Debug for Pages<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("listing", &self.listing)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
