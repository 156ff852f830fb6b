//! `docs/compatibility.md`: tables of the requests that the tests really ran, from the facts that they noted.
//! Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// The page for these facts, one line of JSON each.
///
/// # Errors
/// A line that is not a fact.
pub(crate) fn page(facts: &str) -> Result<String, String> {
    let [mut devices, mut services, mut at_hubs, mut hub_services] = [const { Table::new() }; 4];
    for line in facts.lines() {
        let fact: Value =
            serde_json::from_str(line).map_err(|why| format!("`{line}` is not a fact: {why}"))?;
        let text = |name: &str| fact.get(name).and_then(Value::as_str).unwrap_or_default();
        let client = text("client");
        let with = |member: &str| (format!("{client} | {}", text(member)), text("transport").to_owned());
        let call =
            |member: &str| (format!("`{}`", text(member)), format!("{client}, {}", text("apiVersion")));
        let has = |member: &str| fact.get(member).is_some();
        if has("operation") {
            services.mark(call("operation"));
        } else if has("hubOperation") {
            hub_services.mark(call("hubOperation"));
        } else if has("hubCredential") {
            at_hubs.mark(with("hubCredential"));
        } else {
            devices.mark(with("attestation"));
        }
    }
    // In the order in which the documentation names them.
    let transports = ["HTTPS", "MQTT", "MQTT-WS", "AMQP", "AMQP-WS"].map(str::to_owned);
    Ok(format!(
        "{HEAD}{DEVICES}{}{SERVICES}{}{AT_HUBS}{}{HUB_SERVICES}{}",
        devices.render("client | attestation", &transports),
        services.render("operation", &Vec::from_iter(services.columns())),
        at_hubs.render("client | credential", &transports[1..=2]),
        hub_services.render("operation", &Vec::from_iter(hub_services.columns())),
    ))
}

/// Whether a test with a software TPM ran, which not every machine has. The tests with requests for
/// certificates have a TPM in memory.
pub(crate) fn has_tpm(facts: &str) -> bool {
    facts.contains("\"attestation\":\"TPM, individual\"")
}

/// The rows and columns that have a mark.
struct Table(BTreeSet<(String, String)>);

impl Table {
    const fn new() -> Self {
        Table(BTreeSet::new())
    }

    fn mark(&mut self, cell: (String, String)) {
        self.0.insert(cell);
    }

    fn columns(&self) -> BTreeSet<String> {
        self.0.iter().map(|(_, column)| column.clone()).collect()
    }

    fn render(&self, title: &str, columns: &[String]) -> String {
        let rows: BTreeSet<&String> = self.0.iter().map(|(row, _)| row).collect();
        let dashes = "| --- ".repeat(title.split('|').count() + columns.len());
        let mut lines = vec![format!("| {title} | {} |", columns.join(" | ")), format!("{dashes}|")];
        lines.extend(rows.into_iter().map(|row| {
            let ran =
                |column: &String| if self.0.contains(&(row.clone(), column.clone())) { "yes" } else { "" };
            let cells: Vec<_> = columns.iter().map(ran).collect();
            format!("| {row} | {} |", cells.join(" | "))
        }));
        lines.join("\n") + "\n"
    }
}

const HEAD: &str = "\
# Compatibility

This page lists the operations that passed against the emulator. `cargo xtask docs` writes it from the notes of
the tests, so do not edit it. `cargo xtask test` fails when the page and the tests differ, on machines that can
test TPMs. The versions are those that the tests install. An empty cell means that no test runs the operation,
mostly because the client or the service does not offer it.
";

const DEVICES: &str = "
## Devices

Registrations that assigned the device to a hub. The service has no TPM attestation over MQTT, and none for groups.
The Python client supports MQTT only. In the Node client, each transport is a package. \"With a CSR\": the device
also sent a certificate signing request, and got its certificate with the assignment.

";

const SERVICES: &str = "
## Back ends

Requests that the emulator's service API answered with success, and the api-version that the client sent. A PUT
creates, or replaces with `If-Match`. The POST to a collection is a bulk operation.

";

const AT_HUBS: &str = "
## Devices at their hub

Devices that registered, connected to their emulated hub, read their twin, reported a property, received a desired
one, sent telemetry, answered a direct method, and received a message.

";

const HUB_SERVICES: &str = "
## Back ends of hubs

Requests that the REST API of an emulated hub answered with success, and the api-version that the client sent.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_become_tables() {
        let facts = r#"{"client":"a 1","transport":"MQTT","attestation":"TPM, individual"}
{"client":"a 1","transport":"HTTPS","attestation":"TPM, individual"}
{"client":"a 1","transport":"HTTPS","attestation":"TPM, individual"}
{"client":"b 2","operation":"GET /x/{id}","apiVersion":"2021-10-01"}
{"client":"c 3","transport":"MQTT-WS","hubCredential":"X.509"}
{"client":"d 4","hubOperation":"GET /twins/{id}","apiVersion":"2021-04-12"}
"#;
        let page = page(facts).unwrap();
        assert!(
            page.contains("| client | attestation | HTTPS | MQTT | MQTT-WS | AMQP | AMQP-WS |\n"),
            "{page}"
        );
        assert!(page.contains("| --- | --- | --- | --- | --- | --- | --- |\n| a 1 | TPM, individual | yes | yes |  |  |  |\n"), "{page}");
        for table in [
            "| operation | b 2, 2021-10-01 |\n| --- | --- |\n| `GET /x/{id}` | yes |\n",
            "| client | credential | MQTT | MQTT-WS |\n| --- | --- | --- | --- |\n| c 3 | X.509 |  | yes |\n",
            "| operation | d 4, 2021-04-12 |\n| --- | --- |\n| `GET /twins/{id}` | yes |\n",
        ] {
            assert!(page.contains(&format!("\n\n{table}")), "{page}");
        }
        assert!(has_tpm(facts) && !has_tpm(""));
        assert!(!has_tpm(r#"{"attestation":"TPM, individual, with a CSR"}"#));
    }

    #[test]
    fn a_line_that_is_not_a_fact_is_an_error() {
        assert!(page("{").unwrap_err().contains("not a fact"));
    }
}
