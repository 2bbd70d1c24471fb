//! Bytes become a file of the sync journal beside a topic with a segment. Opening the data directory must not panic, must
//! write to no other file than segments that are there, and must find nothing to do when it is opened again.
//!
//! Input: the journal's file. Each block of 4096 bytes that claims to be a record gets the head and the checksum of one:
//! otherwise no input would come past the first.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use chronik_log::dir::DataDir;
use chronik_log::fs::{Fs, MemFs, OpenMode};
use chronik_model::{NodeId, Uuid};
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 4096;
const SEGMENT: &str = "/data/wal/t/0/wal_0_0.log";

fn completed(file: &mut [u8]) {
    for position in (0..file.len()).step_by(BLOCK) {
        let rest = &mut file[position..];
        if rest.len() < 32 || rest[0] == 0 {
            continue;
        }
        let len = usize::from(u16::from_be_bytes([rest[10], rest[11]])).clamp(32, rest.len());
        rest[..4].copy_from_slice(b"CHSJ");
        rest[8..12].copy_from_slice(&u32::try_from(len).unwrap_or(0).to_be_bytes());
        rest[16..24].copy_from_slice(&1_u64.to_be_bytes());
        rest[24..32].copy_from_slice(&(position as u64).to_be_bytes());
        let crc = crc32c::crc32c(&rest[8..len]).to_be_bytes();
        rest[4..8].copy_from_slice(&crc);
    }
}

fn open(fs: &MemFs) -> DataDir {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    DataDir::open(fs, "/data".into(), NodeId::new(1), Uuid::from_random([1; 16])).expect("a sound disk is opened")
}

fn write(fs: &MemFs, path: &str, bytes: &[u8]) {
    let file = fs.open(Path::new(path), OpenMode::Create).expect("it can be made");
    file.write_all_at(bytes, 0).expect("it can be written");
}

fuzz_target!(|data: &[u8]| {
    let fs = MemFs::new();
    drop(open(&fs));
    fs.create_dir_all(Path::new("/data/wal/t/0")).expect("it can be made");
    write(&fs, SEGMENT, &[7; 100]);
    let mut journal = data.to_vec();
    completed(&mut journal);
    write(&fs, "/data/wal/sync-journal~0", &journal);
    let text = "chronik-sync-journal 1\nnext 2\n1 0\n";
    write(
        &fs,
        "/data/wal/sync-journal~fillings",
        format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes())).as_bytes(),
    );
    let names = |fs: &MemFs| fs.files().into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let before = names(&fs);

    let dir = open(&fs);
    assert!(dir.replayed().segments.iter().all(|path| path == Path::new(SEGMENT)));
    drop(dir);
    assert_eq!(names(&fs), before);
    let after = fs.files();
    let dir = open(&fs);
    assert_eq!((dir.replayed().records, dir.replayed().bytes), (0, 0));
    drop(dir);
    assert_eq!(fs.files(), after);
});
