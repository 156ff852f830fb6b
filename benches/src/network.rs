//! What a registration costs where a round trip takes time.

use std::time::Duration;

use crate::job::Transport;
use crate::measure;
use crate::proxy::Network;
use crate::report::{Figures, Page, millis};
use crate::subject::{Run, Subject};
use crate::{Bench, Outcome};

pub(crate) fn round_trips(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "One registration over a network");
    page.paragraph(
        "A proxy on the same machine delays every byte by half of the round trip. The round trips are those that the \
         client waited for: the TCP handshake, and each time that it sent after it had received.",
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for millis_each in bench.scale.round_trips_ms {
        let round_trip = Duration::from_millis(*millis_each);
        let network = runtime.block_on(Network::start(bench.server.ports, round_trip))?;
        for transport in Transport::ALL {
            for subject in [Subject::SDK, Subject::Node].into_iter().filter(|subject| subject.can(transport))
            {
                let (mut costs, mut turns) = (Vec::new(), Figures::default());
                for _ in 0..bench.scale.runs {
                    let run = Run { ports: network.ports, ..bench.run(1, 1) };
                    network.round_trips();
                    costs.push(measure::run(&mut run.command(subject, transport)?, 1)?);
                    turns.add(network.round_trips() as f64);
                }
                rows.push([
                    millis_each.to_string(),
                    transport.name().to_owned(),
                    subject.name().to_owned(),
                    costs.iter().map(|cost| millis(cost.cpu)).collect::<Figures>().to_string(),
                    costs.iter().map(|cost| millis(cost.wall)).collect::<Figures>().to_string(),
                    turns.to_string(),
                ]);
            }
        }
    }
    page.table(["round trip, ms", "transport", "client", "CPU, ms", "time, ms", "round trips"], &rows);
    Ok(())
}
