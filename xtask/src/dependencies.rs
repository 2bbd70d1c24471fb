//! Which room may use which, and which room alone opens which outside door.
//!
//! The tables are the design; `cargo metadata` is what is there. Adding a line here is a design change and says so in
//! its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Our packages, lowest first, each with the full list of our own packages it may use.
pub const ROOMS: &[(&str, &[&str])] = &[
    ("chronik-model", &[]),
    ("chronik-record", &["chronik-model"]),
    ("chronik-wire", &["chronik-model"]),
    ("chronik-net", &[]),
    ("chronik-log", &["chronik-model", "chronik-record"]),
    ("chronik-metadata", &["chronik-model"]),
    ("chronik-replication", &["chronik-model", "chronik-record", "chronik-log"]),
    ("chronik-coordinator", &["chronik-model", "chronik-metadata"]),
    // `record`: the client writes and reads the batches that its produce and fetch calls carry.
    ("chronik-client", &["chronik-model", "chronik-record", "chronik-wire", "chronik-net"]),
    ("chronik-controller", &["chronik-model", "chronik-record", "chronik-log", "chronik-metadata", "chronik-net"]),
    (
        "chronik-broker",
        &[
            "chronik-model",
            "chronik-record",
            "chronik-wire",
            "chronik-net",
            "chronik-log",
            "chronik-metadata",
            "chronik-replication",
            "chronik-coordinator",
            "chronik-client",
        ],
    ),
    ("chronik-console", &["chronik-model", "chronik-metadata"]),
    ("chronik-sim", &["chronik-model", "chronik-record", "chronik-log", "chronik-metadata", "chronik-replication"]),
    (
        "chronik",
        &[
            "chronik-model",
            "chronik-record",
            "chronik-wire",
            "chronik-net",
            "chronik-log",
            "chronik-metadata",
            "chronik-replication",
            "chronik-coordinator",
            "chronik-client",
            "chronik-controller",
            "chronik-broker",
            "chronik-console",
        ],
    ),
    ("chronik-e2e", &["chronik-model", "chronik-record", "chronik-wire", "chronik-client"]),
    (
        "chronik-bench-micro",
        &["chronik-model", "chronik-record", "chronik-wire", "chronik-net", "chronik-log", "chronik-replication"],
    ),
    ("xtask", &[]),
];

/// Rooms without sockets, threads, tasks, clocks or environment.
pub const CORES: &[&str] = &[
    "chronik-model",
    "chronik-record",
    "chronik-wire",
    "chronik-log",
    "chronik-replication",
    "chronik-metadata",
    "chronik-coordinator",
];

/// Outside packages that only the named rooms may use, tests of a room included.
pub const DOORS: &[(&str, &[&str])] = &[
    ("socket2", &["chronik-net"]),
    ("rustls", &["chronik-net"]),
    ("tokio-rustls", &["chronik-net"]),
    ("openraft", &["chronik-controller"]),
    ("object_store", &["chronik-tiered"]),
    ("kafka-protocol", &["chronik-wire"]),
    ("rdkafka", &["chronik-e2e"]),
    ("axum", &["chronik-console"]),
    ("clap", &["chronik"]),
    ("toml", &["chronik"]),
    ("tracing-subscriber", &["chronik"]),
    ("anyhow", &["chronik", "chronik-e2e", "chronik-bench-micro", "xtask"]),
];

/// Outside packages that no core may use, whatever the kind of dependency.
pub const NOT_IN_CORES: &[&str] = &["tokio", "tokio-util", "futures", "async-trait", "getrandom", "rand", "tracing"];

/// One package of the workspace as `cargo metadata` tells it.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Name in its manifest.
    pub name: String,
    /// Everything its manifest asks for.
    pub dependencies: Vec<Dependency>,
}

/// One dependency of a package.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// Name of the package asked for.
    pub name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    pub kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// The packages of this workspace.
pub fn workspace() -> anyhow::Result<Vec<Package>> {
    let told = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(crate::repository::root()?)
        .output()
        .context("cannot run cargo")?;
    ensure!(told.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&told.stderr));
    Ok(serde_json::from_slice::<Metadata>(&told.stdout)?.packages)
}

/// What is wrong with these packages by the tables above, one line each; empty when all is well.
pub fn violations(packages: &[Package]) -> Vec<String> {
    let rooms: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let Some(allowed) = rooms.get(name) else {
            found.push(format!("{name} has no line in the table of rooms"));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            if (ours.contains(used) || used.starts_with("chronik-")) && !allowed.contains(&used) {
                found.push(format!("{name} may not use {used}"));
            }
            if CORES.contains(&name) && NOT_IN_CORES.contains(&used) {
                found.push(format!("{name} is a core and may not use {used}"));
            }
            if DOORS.iter().any(|(door, rooms)| *door == used && !rooms.contains(&name)) {
                found.push(format!("{used} belongs to another room than {name}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependencies =
            dependencies.iter().map(|name| Dependency { name: (*name).to_owned(), kind: None }).collect();
        Package { name: name.to_owned(), dependencies }
    }

    #[test]
    fn an_edge_that_points_up_is_found() {
        let packages = [package("chronik-log", &["chronik-record", "chronik-broker"])];
        assert_eq!(violations(&packages), ["chronik-log may not use chronik-broker"]);
    }

    #[test]
    fn an_unknown_room_is_found() {
        assert_eq!(violations(&[package("chronik-attic", &[])]), ["chronik-attic has no line in the table of rooms"]);
    }

    #[test]
    fn a_core_with_tasks_and_a_stranger_at_a_door_are_found() {
        let packages = [package("chronik-metadata", &["tokio"]), package("chronik-broker", &["socket2"])];
        assert_eq!(
            violations(&packages),
            ["chronik-metadata is a core and may not use tokio", "socket2 belongs to another room than chronik-broker"]
        );
    }

    #[test]
    fn the_table_itself_points_only_downwards() {
        for (position, (name, allowed)) in ROOMS.iter().enumerate() {
            for used in *allowed {
                let below = ROOMS.iter().position(|(room, _)| room == used);
                assert!(below.is_some_and(|below| below < position), "{name} -> {used}");
            }
        }
    }
}
