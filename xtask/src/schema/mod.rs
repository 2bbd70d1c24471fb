//! Generates `crates/wire/src/messages` from the JSON message schemas that Kafka ships in `kafka-clients-*.jar` under
//! `common/message`.
//!
//! Every API with a broker listener gets its request and response; headers and the consumer protocol's embedded messages
//! come with them. Beside the Rust files it writes `crates/wire/testdata/schema.txt`, a flat description of the same
//! schemas from which a test builds valid messages independently of the generated code.

mod describe;
mod emit;
mod parse;
mod resolve;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use resolve::Message;

/// Release of Kafka whose schemas are the reference.
const KAFKA_VERSION: &str = "4.3.1";

/// Messages that are not APIs but travel inside them or before them.
const EXTRA: &[&str] =
    &["ConsumerProtocolAssignment", "ConsumerProtocolSubscription", "RequestHeader", "ResponseHeader"];

/// Reads the schemas in `dir` and writes the generated files below `root`.
pub(crate) fn generate(dir: &Path, root: &Path) -> anyhow::Result<()> {
    let messages = load(dir)?;
    let wire = root.join("crates/wire");
    let out = wire.join("src/messages");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot clear {}", out.display()))?;
    }
    fs::create_dir_all(&out)?;
    fs::create_dir_all(wire.join("testdata"))?;
    let mut files = vec![
        (out.join("mod.rs"), emit::module(&messages)),
        (out.join("api_keys.rs"), emit::api_keys(&messages)?),
        (out.join("body.rs"), emit::bodies(&messages)),
    ];
    for message in &messages {
        files.push((out.join(format!("{}.rs", message.module)), emit::message(message)));
    }
    for (path, text) in &files {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let status = Command::new("rustfmt").args(["--edition", "2024"]).arg(out.join("mod.rs")).status()?;
    if !status.success() {
        bail!("rustfmt failed on the generated files");
    }
    fs::write(wire.join("testdata/schema.txt"), describe::messages(&messages))?;
    Ok(())
}

/// All messages to generate, by name.
fn load(dir: &Path) -> anyhow::Result<Vec<Message>> {
    let mut schemas = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path)?;
            let schema = parse::schema(&text).with_context(|| format!("in {}", path.display()))?;
            schemas.insert(schema.name.clone(), schema);
        }
    }
    let mut names: Vec<String> = EXTRA.iter().map(|name| (*name).to_owned()).collect();
    for schema in schemas.values() {
        let served = schema.listeners.iter().any(|listener| listener == "broker");
        if schema.kind == "request" && schema.valid_versions != "none" && served {
            names.push(schema.name.clone());
            names.push(schema.name.replace("Request", "Response"));
        }
    }
    names.sort();
    let mut messages = Vec::new();
    for name in names {
        let schema = schemas.get(&name).with_context(|| format!("no schema of {name}"))?;
        messages.push(resolve::message(schema).with_context(|| format!("in {name}"))?);
    }
    Ok(messages)
}
