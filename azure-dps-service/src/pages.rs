//! Listings, page by page.

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
    /// All records of this kind, as a [`Stream`] or page by page. Nothing is asked for before the first item
    /// is.
    ///
    /// The service lists everything: its query text filters nothing, so filter here. As with
    /// [`get`](Self::get), symmetric keys are hidden; other than with it, `registration_state` is empty.
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
    /// The registration records of the devices that registered through a group, as a [`Stream`] or page by
    /// page.
    ///
    /// The records of a group that was deleted stay until each of them is deleted. There is no list of all
    /// records of an instance; that of an individual enrollment is part of [`get`](Self::get) of the
    /// enrollment.
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
/// A record that cannot be read costs itself only: the stream gives an error of kind [`ErrorKind::Protocol`]
/// for it, which names its id, and goes on; a page has it in [`unreadable`](Page::unreadable). After any
/// other error the stream ends. So read on after an error until the stream ends, or stop at the first one as
/// `try_next` and `try_collect` make it easy. Dropping a future of [`next_page`](Self::next_page) loses
/// nothing: the next call goes on with the same page.
#[must_use = "a listing asks for nothing before its first item is asked for"]
pub struct Pages<R> {
    pipeline: Arc<Pipeline>,
    listing: Listing,
    /// What is asked for next.
    next: PageRequest,
    ended: bool,
    fetching: Option<Fetching<R>>,
    /// Of the page that was fetched last.
    items: VecDeque<Result<R, Unreadable>>,
    failed: bool,
    /// The hashes of the continuations so far: none comes twice.
    followed: HashSet<u64>,
    hasher: RandomState,
}

type Fetching<R> = Pin<Box<dyn Future<Output = Result<Fetched<R>>> + Send>>;

/// A page as it came: items in their order, and where the next page begins.
type Fetched<R> = (VecDeque<Result<R, Unreadable>>, Option<String>);

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<R> {
    /// The items; a page in the midst of a listing may be empty.
    pub items: Vec<R>,
    /// The items that cannot be read.
    pub unreadable: Vec<Unreadable>,
    /// Where the next page begins, for [`Pages::resume`]; `None` after the last page. It is opaque, and stays
    /// valid in another process.
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

/// An item of a page that is not what the service documents.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreadable {
    /// Its id, if that can be read. [`Collection::get`] fails for it in the same way.
    pub id: Option<String>,
    /// What is wrong with it; no value of the item is quoted.
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
        Error::new(ErrorKind::Protocol, format!("a record of the listing, {which}, is left out: {why}"))
    }
}

#[derive(Clone, Debug)]
enum Listing {
    All,
    OfGroup(String),
}

impl<R: Enrollment> Pages<R> {
    /// Sets the query text. The service wants one and lists everything whatever it says.
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

    /// Sets how many items a page holds at most. Default: the service's choice. The service may send fewer.
    pub fn page_size(mut self, items: u32) -> Self {
        self.next.size = Some(items);
        self.fetching = None;
        self
    }

    /// Begins where an earlier listing of the same kind stopped, with [`Page::continuation`].
    pub fn resume(mut self, continuation: impl Into<String>) -> Self {
        self.next.continuation = Some(continuation.into());
        (self.ended, self.failed, self.fetching) = (false, false, None);
        self.items.clear();
        self.followed.clear();
        self
    }

    /// Asks for the next page; `None` after the last one. After an error the same page is asked for again.
    ///
    /// ```no_run
    /// # async fn example(service: azure_dps_service::ServiceClient) -> azure_dps_service::core::Result<()> {
    /// let mut pages = service.registrations().of_group("plant-berlin").page_size(50);
    /// while let Some(page) = pages.next_page().await? {
    ///     println!("{} records; to go on later: {:?}", page.items.len(), page.continuation);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a page size of 0 or an id that cannot stand in a path,
    /// [`ErrorKind::Service`] when the service refuses the continuation, [`ErrorKind::Protocol`] when it
    /// gives one that it gave before.
    pub async fn next_page(&mut self) -> Result<Option<Page<R>>> {
        self.failed = false;
        if self.items.is_empty() {
            let fetched = poll_fn(|context| self.poll_page(context)).await.transpose()?;
            return Ok(fetched.map(|(items, continuation)| Page::new(items, continuation)));
        }
        // What a stream left over.
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

    /// Goes to where the page leads. A service that leads in a circle would be followed for ever.
    fn follow(&mut self, page: Fetched<R>) -> Result<Fetched<R>> {
        let Some(token) = &page.1 else {
            self.ended = true;
            return Ok(page);
        };
        if let Some(from) = &self.next.continuation {
            self.followed.insert(self.hasher.hash_one(from));
        }
        if !self.followed.insert(self.hasher.hash_one(token)) {
            return Err(Error::new(ErrorKind::Protocol, "the service leads from page to page in a circle"));
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
        return Err(Error::new(ErrorKind::Config, "the page size is 0; a page holds at least one item"));
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
/// More than the service allows, so that a hostile id does not flood a log.
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

/// Nothing in it is pinned in place.
impl<R> Unpin for Pages<R> {}

impl<R> fmt::Debug for Pages<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages")
            .field("listing", &self.listing)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
