//! The reference pages say what the broker does. `CHRONIK_UPDATE_REFERENCE=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chronik_e2e::broker::Broker;
use chronik_e2e::clients;
use chronik_e2e::raw::{self, Connection};
use chronik_wire::ApiKey;

fn check(page: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("docs/reference").join(page);
    if std::env::var_os("CHRONIK_UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{page} is not what the broker says; it should be\n{expected}");
}

#[test]
fn api_versions_page_is_what_the_broker_advertises() {
    let broker = Broker::fresh();
    let told = Connection::open(broker.bootstrap()).ask(4, &raw::hello());
    let mut page = "# API versions\n\nWhat `ApiVersions` advertises, and so what is served. The reference for each is Apache Kafka 4.3.\n\n\
                    | key | API | versions |\n|---|---|---|\n"
        .to_owned();
    for api in &told.api_keys {
        let name = ApiKey::from_i16(api.api_key).expect("a key of Kafka's").name();
        writeln!(page, "| {} | {name} | {} - {} |", api.api_key, api.min_version, api.max_version).unwrap();
    }
    page.push_str(
        "\nUnknown keys and unsupported versions close the connection, as Apache Kafka does; an unsupported version of `ApiVersions` is\n\
         answered in version 0 with UNSUPPORTED_VERSION and the versions of `ApiVersions` itself.\n\n## Features\n\n| feature | supported | finalized |\n|---|---|---|\n",
    );
    for feature in &told.supported_features {
        let level = told.finalized_features.iter().find(|finalized| finalized.name == feature.name);
        let level = level.map_or("-".to_owned(), |level| level.max_version_level.to_string());
        writeln!(page, "| {} | {} - {} | {level} |", feature.name, feature.min_version, feature.max_version).unwrap();
    }
    check("api-versions.md", &page);
}

#[test]
fn metrics_page_lists_what_the_broker_exports() {
    let broker = Broker::fresh();
    clients::create_topic(broker.bootstrap(), "measured", 1, &[]);
    let (status, text) = broker.get("/metrics");
    assert_eq!(status, 200);
    let mut metrics: BTreeMap<String, (String, String)> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        if words.next() != Some("#") {
            continue;
        }
        if let (Some(kind), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) {
            let entry = metrics.entry(name.to_owned()).or_default();
            match kind {
                "HELP" => entry.1 = rest.trim_end_matches('.').to_owned(),
                "TYPE" => entry.0 = rest.to_owned(),
                _ => {}
            }
        }
    }
    assert!(!metrics.is_empty(), "{text}");
    let mut page =
        "# Metrics\n\n`GET /metrics` in Prometheus' text format. Counters carry the suffix `_total` in samples.\n\n\
                    | metric | type | what |\n|---|---|---|\n"
            .to_owned();
    for (name, (kind, help)) in &metrics {
        assert!(name.starts_with("chronik_"), "{name}");
        assert!(!help.is_empty(), "{name} has no help");
        writeln!(page, "| `{name}` | {kind} | {help} |").unwrap();
    }
    check("metrics.md", &page);
}
