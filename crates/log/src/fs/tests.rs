//! One suite for both file systems, and what only the in-memory one does.

use std::path::PathBuf;

use super::*;

/// Each file system with an empty directory of its own.
fn every() -> Vec<(Arc<dyn Fs>, PathBuf, Option<tempfile::TempDir>)> {
    let mem = MemFs::new();
    mem.create_dir_all(Path::new("/d")).unwrap();
    let real = tempfile::tempdir().unwrap();
    let path = real.path().to_owned();
    vec![(Arc::new(mem), PathBuf::from("/d"), None), (Arc::new(RealFs), path, Some(real))]
}

fn kind<T: Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn bytes_are_read_where_they_were_written() {
    for (fs, dir, _guard) in every() {
        let file = fs.open(&dir.join("f"), OpenMode::Create).unwrap();
        file.write_at_vectored(&[IoSlice::new(b"hello "), IoSlice::new(b""), IoSlice::new(b"world")], 3).unwrap();
        assert_eq!(file.len().unwrap(), 14);
        let mut buf = [9; 20];
        assert_eq!(read_full_at(&*file, &mut buf, 0).unwrap(), 14);
        assert_eq!(&buf[..14], b"\0\0\0hello world");
        assert_eq!(file.read_at(&mut buf, 14).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf, 1000).unwrap(), 0);
        assert_eq!(kind(file.read_exact_at(&mut buf, 0)), io::ErrorKind::UnexpectedEof);
        file.set_len(5).unwrap();
        file.set_len(7).unwrap();
        assert_eq!(read_full_at(&*file, &mut buf, 0).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0\0he\0\0");
        assert_eq!(fs.file_len(&dir.join("f")).unwrap(), 7);
        file.sync_data().unwrap();
        fs.sync_dir(&dir).unwrap();
        fs.sync_all(&dir).unwrap();
        file.drop_cached(3).unwrap();
        assert_eq!(read_full_at(&*file, &mut buf, 0).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0\0he\0\0");
        assert!(!file.is_empty().unwrap());
    }
}

#[test]
fn open_modes_mean_what_they_say() {
    for (fs, dir, _guard) in every() {
        let path = dir.join("f");
        assert_eq!(kind(fs.open(&path, OpenMode::Read)), io::ErrorKind::NotFound);
        assert_eq!(kind(fs.open(&path, OpenMode::Write)), io::ErrorKind::NotFound);
        fs.open(&path, OpenMode::Create).unwrap().write_all_at(b"abc", 0).unwrap();
        assert_eq!(fs.open(&path, OpenMode::Create).unwrap().len().unwrap(), 3);
        assert_eq!(fs.open(&path, OpenMode::Write).unwrap().len().unwrap(), 3);
        assert!(fs.open(&path, OpenMode::Read).unwrap().write_all_at(b"x", 0).is_err());
        assert_eq!(fs.open(&path, OpenMode::Truncate).unwrap().len().unwrap(), 0);
        assert_eq!(kind(fs.open(&dir.join("no/f"), OpenMode::Create)), io::ErrorKind::NotFound);
    }
}

#[test]
fn names_are_made_renamed_listed_and_removed() {
    for (fs, dir, _guard) in every() {
        fs.create_dir_all(&dir.join("a/b")).unwrap();
        fs.create_dir_all(&dir.join("a/b")).unwrap();
        fs.open(&dir.join("a/b/f"), OpenMode::Create).unwrap().write_all_at(b"1", 0).unwrap();
        fs.open(&dir.join("a/g"), OpenMode::Create).unwrap().write_all_at(b"22", 0).unwrap();
        let names = |path: &Path| -> Vec<(String, bool)> {
            fs.read_dir(path).unwrap().into_iter().map(|entry| (entry.name, entry.is_dir)).collect()
        };
        assert_eq!(names(&dir.join("a")), [("b".to_owned(), true), ("g".to_owned(), false)]);
        let held = fs.open(&dir.join("a/b/f"), OpenMode::Read).unwrap();
        fs.rename(&dir.join("a/g"), &dir.join("a/b/f")).unwrap();
        assert_eq!(fs.file_len(&dir.join("a/b/f")).unwrap(), 2);
        assert_eq!(held.len().unwrap(), 1);
        fs.rename(&dir.join("a"), &dir.join("c")).unwrap();
        assert!(!fs.exists(&dir.join("a")).unwrap() && fs.exists(&dir.join("c/b/f")).unwrap());
        fs.remove_file(&dir.join("c/b/f")).unwrap();
        assert_eq!(kind(fs.remove_file(&dir.join("c/b/f"))), io::ErrorKind::NotFound);
        assert_eq!(kind(fs.file_len(&dir.join("c/b/f"))), io::ErrorKind::NotFound);
        fs.remove_dir_all(&dir.join("c")).unwrap();
        assert_eq!(kind(fs.read_dir(&dir.join("c"))), io::ErrorKind::NotFound);
        assert_eq!(kind(fs.rename(&dir.join("x"), &dir.join("y"))), io::ErrorKind::NotFound);
    }
}

#[test]
fn a_lock_is_held_until_its_handle_goes() {
    for (fs, dir, _guard) in every() {
        let path = dir.join(".lock");
        let held = fs.lock(&path).unwrap();
        assert_eq!(kind(fs.lock(&path)), io::ErrorKind::WouldBlock);
        drop(held);
        fs.lock(&path).unwrap();
    }
}

#[test]
fn small_files_are_replaced_whole() {
    for (fs, dir, _guard) in every() {
        let path = dir.join("f");
        assert_eq!(read_small_file(&*fs, &path).unwrap(), None);
        for (bytes, durability) in [(&b"first"[..], Durability::Durable), (&b"2"[..], Durability::Visible)] {
            replace_file(&*fs, &path, bytes, durability).unwrap();
            assert_eq!(read_small_file(&*fs, &path).unwrap().unwrap(), bytes);
        }
        assert_eq!(fs.read_dir(&dir).unwrap().len(), 1);
    }
}

/// A disk with one durable file of 2,000 bytes.
fn written() -> (MemFs, Arc<dyn File>) {
    let fs = MemFs::new();
    fs.create_dir_all(Path::new("/d")).unwrap();
    let file = fs.open(Path::new("/d/f"), OpenMode::Create).unwrap();
    file.write_all_at(&[1; 2000], 0).unwrap();
    fs.sync_all(Path::new("/")).unwrap();
    (fs, file)
}

fn content(fs: &MemFs) -> Vec<u8> {
    read_small_file(fs, Path::new("/d/f")).unwrap().unwrap()
}

#[test]
fn a_crash_keeps_what_was_synced_and_tears_the_rest() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let (fs, file) = written();
        file.write_all_at(&[2; 2000], 2000).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(&[3; 3000], 4000).unwrap();
        fs.crash(seed);
        let after = content(&fs);
        assert_eq!(&after[..4000], [[1; 2000], [2; 2000]].concat(), "seed {seed}");
        match after.iter().filter(|byte| **byte == 3).count() {
            0 => lost += 1,
            3000 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 0 && kept > 0 && torn > 0, "{lost} {kept} {torn}");
}

#[test]
fn a_name_is_durable_only_after_its_directory_is_synced() {
    let mut lost = 0;
    for seed in 0..50 {
        let (fs, _) = written();
        let file = fs.open(Path::new("/d/g"), OpenMode::Create).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        fs.crash(seed);
        lost += u32::from(!fs.exists(Path::new("/d/g")).unwrap());

        let (fs, _) = written();
        fs.open(Path::new("/d/g"), OpenMode::Create).unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        fs.crash(seed);
        assert!(fs.exists(Path::new("/d/g")).unwrap());
    }
    assert!(lost > 0 && lost < 50, "{lost}");
}

#[test]
fn a_sync_that_failed_loses_its_bytes_although_the_next_one_succeeds() {
    let mut lost = false;
    for seed in 0..20 {
        let (fs, file) = written();
        file.write_all_at(&[9; 100], 0).unwrap();
        fs.fail_at(0, Fault::Io);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(content(&fs).first(), Some(&9), "the cache has what the disk has not");
        let other = fs.open(Path::new("/d/f"), OpenMode::Write).unwrap();
        if seed % 2 == 0 {
            other.drop_cached(0).unwrap();
            assert_eq!(content(&fs).first(), Some(&1));
        }
        fs.crash(seed);
        lost |= content(&fs).first() == Some(&1);
    }
    assert!(lost);
}

#[test]
fn the_planned_sync_fails_and_no_other_call_does() {
    let (fs, file) = written();
    fs.fail_sync_at(1);
    for byte in 0..5 {
        file.write_all_at(&[byte; 10], 0).unwrap();
    }
    fs.sync_dir(Path::new("/d")).unwrap();
    file.sync_data().unwrap();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
}

#[test]
fn the_planned_call_fails_and_leaves_a_part() {
    let (fs, file) = written();
    fs.fail_at(1, Fault::NoSpace);
    file.write_all_at(&[5; 30], 0).unwrap();
    let error = file.write_all_at(&[6; 30], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&fs)[..30], [[6; 20].as_slice(), &[5; 10]].concat());
    file.write_all_at(&[7; 30], 0).unwrap();
    fs.fail_at(0, Fault::PowerCut);
    assert!(file.sync_data().is_err() && file.write_all_at(b"x", 0).is_err());
    assert!(fs.open(Path::new("/d/f"), OpenMode::Read).is_err());
    assert!(fs.remove_file(Path::new("/d/f")).is_err());
    fs.crash(1);
    assert_eq!(content(&fs).len(), 2000);
}
