//! Spans and events of a manager are those of the monitoring guide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use azure_dps_device::manager::Happening;
use azure_dps_emulator::{Fault, Operation};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Scene;

const GUIDE: &str = include_str!("../../../azure-dps-device/docs/monitoring.md");

/// Each span and event of the manager, with its fields.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<Line>>>);

#[derive(Clone, Debug)]
struct Line {
    kind: &'static str,
    name: String,
    level: Level,
    fields: BTreeMap<&'static str, String>,
    /// The spans around it.
    within: Vec<&'static str>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let within = context.span_scope(id).into_iter().flatten().skip(1).map(|span| span.name()).collect();
        self.note("span", attributes.metadata().name(), attributes.metadata(), fields, within);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let name = fields.0.remove("message").unwrap_or_default();
        let within = context.event_scope(event).into_iter().flatten().map(|span| span.name()).collect();
        self.note("event", &name, event.metadata(), fields, within);
    }
}

impl Seen {
    fn note(
        &self,
        kind: &'static str,
        name: &str,
        metadata: &Metadata<'static>,
        fields: Fields,
        within: Vec<&'static str>,
    ) {
        if metadata.target().starts_with("azure_dps_device::manager") {
            let (name, level) = (name.to_owned(), *metadata.level());
            self.0.lock().unwrap().push(Line { kind, name, level, fields: fields.0, within });
        }
    }

    fn of(&self, kind: &str, name: &str) -> Vec<Line> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| (line.kind, &*line.name) == (kind, name)).cloned().collect()
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// The part of the guide about managers, and what is marked as code in its table.
fn guide() -> BTreeSet<&'static str> {
    let part = GUIDE.split("## Devices with a provisioning manager").nth(1).unwrap();
    let part = part.split("\n## ").next().unwrap();
    let rows = part.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect()
}

#[tokio::test]
async fn spans_and_events_are_those_of_the_guide_and_one_span_is_one_attempt() {
    // With a single dispatcher, `tracing` asks the default of whichever thread comes first to a span, and other
    // tests have none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let seen = Seen::default();
    let _guard = tracing_subscriber::registry().with(seen.clone()).set_default();
    let scene = Scene::start().await;
    scene.plant.emulator.inject(Fault::status(503).on(Operation::Register)).unwrap();
    let mut running = scene.boot();
    let mut events = running.online().await;
    let [here, _] = scene.hubs(&running);
    scene.plant.emulator.delete_hub_device(&here, "dev1");
    events.extend(running.until(Happening::Assigned).await);
    events.extend(running.online().await);
    running.manager.stop().await;
    while let Some(event) = running.events.next().await {
        events.push(event);
    }

    let guide = guide();
    for line in seen.0.lock().unwrap().iter() {
        assert!(guide.contains(&*line.name), "{line:?} is not in the guide");
        assert_eq!(line.level, Level::INFO, "{line:?}");
        for field in line.fields.keys() {
            assert!(guide.contains(field), "{field} of {line:?} is not in the guide");
        }
        let is_outer = line.name == "dps_manager";
        assert_eq!(line.within.last(), (!is_outer).then_some(&"dps_manager"), "{line:?}");
    }
    let all = seen.0.lock().unwrap().clone();
    let fields: BTreeSet<_> = all.iter().flat_map(|line| line.fields.keys().copied()).collect();
    let names: BTreeSet<_> = all.iter().map(|line| &*line.name).collect();
    let attempts = ["register", "look up", "connect"];
    for word in &guide {
        let is_seen = fields.contains(word) || names.contains(word) || attempts.contains(word);
        assert!(is_seen, "{word} is in the guide only");
    }

    // One event for each happening, and one span for each attempt.
    let logged: Vec<_> =
        seen.of("event", "provisioning").iter().map(|line| line.fields["happening"].clone()).collect();
    let published: Vec<_> = events.iter().map(|event| format!("{:?}", event.happening)).collect();
    assert_eq!(logged, published);
    let spans = seen.of("span", "provisioning");
    let count =
        |attempt: &str| spans.iter().filter(|line| line.fields["attempt"] == format!("{attempt:?}")).count();
    let happened = |happening| events.iter().filter(|event| event.happening == happening).count();
    assert_eq!(count("register"), happened(Happening::Registering));
    assert_eq!(count("connect"), happened(Happening::Connecting));
    assert_eq!(count("look up"), happened(Happening::LookedUp));
    assert_eq!((count("register"), count("look up")), (3, 1));
}
