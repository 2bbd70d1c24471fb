//! The rooms use each other as the table says.

use xtask::dependencies::{CORES, ROOMS, violations, workspace};

#[test]
fn rooms_use_only_what_the_table_allows() {
    let found = violations(&workspace().unwrap());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_room_of_the_table_that_is_a_core_has_its_own_clippy_configuration() {
    let root = xtask::repository::root().unwrap();
    for core in CORES {
        let folder = core.strip_prefix("chronik-").unwrap();
        let text = std::fs::read_to_string(root.join("crates").join(folder).join("clippy.toml")).unwrap();
        for forbidden in
            ["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::spawn", "std::env::var"]
        {
            assert!(text.contains(&format!("\"{forbidden}\"")), "crates/{folder}/clippy.toml allows {forbidden}");
        }
    }
}

#[test]
fn the_table_names_only_packages_that_exist() {
    let packages = workspace().unwrap();
    for (room, _) in ROOMS {
        assert!(packages.iter().any(|package| package.name == *room), "{room}");
    }
}
