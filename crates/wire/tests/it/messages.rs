//! Every message in every version: valid ones survive a round trip, cut ones are errors, damaged ones never panic.

use bytes::Bytes;
use chronik_wire::ApiKey;
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::build::{self, Random};
use crate::{any, schema};

/// Runs `check` on each schema and version.
fn each(mut check: impl FnMut(&schema::Message, i16)) {
    for message in schema::all() {
        for version in message.versions.clone() {
            check(&message, version);
        }
    }
}

#[test]
fn schemas_and_api_table_agree() {
    let mut requests = 0;
    for message in schema::all().iter().filter(|message| message.kind == "request") {
        let key = ApiKey::from_i16(message.api_key.unwrap()).unwrap();
        assert_eq!(format!("{}Request", key.name()), message.name);
        assert_eq!(key.valid_versions(), message.versions);
        for version in message.versions.clone() {
            assert_eq!(key.is_flexible(version), message.flexible.contains(&version));
        }
        requests += 1;
    }
    assert_eq!(requests, ApiKey::ALL.len());
}

#[test]
fn cut_messages_are_errors_at_every_byte() {
    each(|message, version| {
        let seed = 0x5eed ^ version as u64;
        let bytes = Bytes::from(build::message(message, version, &mut Random(seed)));
        for len in 0..bytes.len() {
            let decoded = any::decode(message, version, bytes.slice(..len));
            assert!(decoded.is_err(), "{} version {version} seed {seed}: {len} of {}", message.name, bytes.len());
        }
    });
}

#[test]
fn versions_without_schema_are_errors() {
    for message in schema::all() {
        for version in [message.versions.start() - 1, message.versions.end() + 1, i16::MIN, i16::MAX] {
            assert!(any::decode(&message, version, Bytes::from_static(&[0; 64])).is_err(), "{}", message.name);
        }
    }
}

proptest! {
    // A failing case prints its seed, from which the message can be built again.
    #![proptest_config(Config { cases: 24, failure_persistence: None, ..Config::default() })]

    #[test]
    fn valid_messages_are_encoded_to_the_same_bytes(seed: u64) {
        each(|message, version| {
            let bytes = Bytes::from(build::message(message, version, &mut Random(seed)));
            let context = format!("{} version {version} seed {seed}", message.name);
            let decoded = any::decode(message, version, bytes.clone());
            let decoded = decoded.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(decoded.remaining, 0, "{context}: {}", decoded.text);
            assert_eq!(decoded.encoded, Ok(bytes), "{context}: {}", decoded.text);
        });
    }

    #[test]
    fn damaged_messages_never_panic(seed: u64) {
        let mut random = Random(seed);
        each(|message, version| {
            let valid = build::message(message, version, &mut random);
            for _ in 0..8 {
                let mut bytes = valid.clone();
                for _ in 0..1 + random.below(3) {
                    let at = random.below(bytes.len() + 1);
                    match random.below(4) {
                        0 => bytes.insert(at, random.bits() as u8),
                        1 => bytes.truncate(at),
                        _ if at == bytes.len() => bytes.push(0xff),
                        2 => bytes[at] = [0, 0x7f, 0x80, 0xff][random.below(4)],
                        _ => bytes[at] ^= 1 << random.below(8),
                    }
                }
                let _ = any::decode(message, version, bytes.into());
            }
        });
    }

    #[test]
    fn noise_never_panics(seed: u64) {
        let mut random = Random(seed);
        each(|message, version| {
            let bytes: Vec<u8> = (0..random.below(64)).map(|_| random.bits() as u8 >> random.below(8)).collect();
            let _ = any::decode(message, version, bytes.into());
        });
    }
}
