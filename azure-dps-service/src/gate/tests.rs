//! The gate in paused time: the order of calls, and the effect of dropped and forgotten futures on the
//! others.

use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

async fn closed_for(seconds: u64) -> Arc<Gate> {
    let gate = Arc::<Gate>::default();
    let pass = gate.enter(Rank::New, None).await.unwrap();
    pass.throttled(SECOND * seconds as u32, SECOND * seconds as u32);
    gate
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_all_calls_wait_and_then_go_in_order() {
    let gate = closed_for(60).await;
    let start = Instant::now();
    let order = Arc::<Mutex<Vec<usize>>>::default();
    let mut tasks = Vec::new();
    for number in 0..100 {
        let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let pass = gate.enter(Rank::New, None).await.unwrap();
            assert!(start.elapsed() >= 60 * SECOND);
            order.lock().unwrap().push(number);
            sleep(Duration::from_millis(10)).await;
            pass.answered();
        }));
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert!(start.elapsed() < 61 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_and_a_dropped_pass_block_no_call() {
    let gate = closed_for(60).await;
    let mut first = Box::pin(gate.enter(Rank::New, None));
    assert!(first.as_mut().now_or_never().is_none());
    let second = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { drop(gate.enter(Rank::New, None).await.unwrap()) }
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    sleep(59 * SECOND).await;
    drop(first);
    second.await.unwrap();
    assert!(start.elapsed() <= 60 * SECOND + Duration::from_millis(10), "{:?}", start.elapsed());
    // The probe was dropped without an answer: the next one goes at once.
    drop(gate.enter(Rank::New, None).await.unwrap());
    assert!(start.elapsed() <= 60 * SECOND + Duration::from_millis(10), "{:?}", start.elapsed());
    assert!(gate.lock().bells.is_empty());
}

#[tokio::test(start_paused = true)]
async fn futures_that_are_not_polled_block_others_only_briefly() {
    let gate = closed_for(60).await;
    let mut forgotten: Vec<_> = (0..50).map(|_| Box::pin(gate.enter(Rank::New, None))).collect();
    for future in &mut forgotten {
        assert!(future.as_mut().now_or_never().is_none());
    }
    let start = Instant::now();
    gate.enter(Rank::New, None).await.unwrap().answered();
    assert!(start.elapsed() <= 64 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn passes_that_are_never_answered_block_others_only_briefly() {
    let gate = Gate::default();
    let start = Instant::now();
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(gate.enter(Rank::New, None).await.unwrap());
    }
    assert!(start.elapsed() <= 5 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_limit_ends_the_wait_and_ends_it_at_once_when_the_gate_opens_later() {
    let gate = closed_for(60).await;
    let start = Instant::now();
    let closed = gate.enter(Rank::New, Some(start + 59 * SECOND)).await.unwrap_err();
    assert_eq!((closed.opens_in, start.elapsed()), (Some(60 * SECOND), Duration::ZERO));
    assert!(gate.enter(Rank::New, Some(start + 61 * SECOND)).await.is_ok());

    let gate = Gate::default();
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(gate.enter(Rank::New, None).await.unwrap());
    }
    let start = Instant::now();
    let closed = gate.enter(Rank::New, Some(start + SECOND / 2)).await.unwrap_err();
    assert_eq!(closed.opens_in, None);
    assert!(start.elapsed() >= SECOND / 2 && start.elapsed() < SECOND);
}
