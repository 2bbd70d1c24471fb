//! File systems of their own on loop devices: small ones that fill up, read-only ones, and ones whose power can be cut.
//!
//! Cutting the power is the file system's own emergency stop: from then on nothing reaches the image, and what was not synced
//! is gone after the next mount. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::broker::Broker;
use crate::{process, wait};

/// A process that is told to stop does so well within this.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// An ext4 file system in an image file, mounted on a folder of its own; unmounted and removed when it goes out of scope.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    mounted: bool,
}

impl Disk {
    /// A fresh file system of this size, mounted.
    pub fn of_mib(size: u64) -> Self {
        let folder = TempDir::new().expect("a folder");
        let image = folder.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(size << 20)).expect("an image");
        run("mkfs.ext4", &["-q".as_ref(), "-m".as_ref(), "0".as_ref(), image.as_os_str()]);
        std::fs::create_dir(folder.path().join("mount")).expect("a folder");
        let mut disk = Self { folder, mounted: false };
        disk.mount("loop");
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Mounts it with these options; `loop` is among them.
    pub fn mount(&mut self, options: &str) {
        assert!(!self.mounted, "it is mounted already");
        let image = self.folder.path().join("image");
        run("mount", &["-o".as_ref(), options.as_ref(), image.as_os_str(), self.path().as_os_str()]);
        self.mounted = true;
    }

    /// Unmounts it; nobody may have files open on it.
    pub fn unmount(&mut self) {
        run("umount", &[self.path().as_os_str()]);
        self.mounted = false;
    }

    /// Cuts the power: every write and sync from now on fails, and what was not synced is lost.
    fn cut_power(&self) {
        run("xfs_io", &["-x".as_ref(), "-c".as_ref(), "shutdown".as_ref(), self.path().as_os_str()]);
    }

    /// Fills it to the last byte with a file of this name.
    pub fn fill(&self, name: &str) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.path().join(name)).expect("a file");
        let block = vec![0x5a; 4096];
        while file.write_all(&block).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: after a failed test a process may still hold files here.
            Command::new("umount").arg("-l").arg(self.path()).status().ok();
        }
    }
}

/// Runs a program to its end; panics with what it said when it fails.
/// The machines of these brokers stop as a whole, and lose what was not synced. Were a process still running while its file system
/// goes down, a sync under way could be reported as done by a kernel that has just given up the journal, and be acknowledged:
/// no power cut does that.
pub fn cut(machines: &mut [(&mut Broker, &mut Disk)]) {
    for (broker, _) in machines.iter_mut() {
        broker.signal(Signal::STOP);
    }
    for (broker, disk) in machines {
        wait::until_true("the process to stand still", STANDSTILL_MAX, || process::stands_still(broker.pid()));
        disk.cut_power();
        broker.kill();
        disk.unmount();
        disk.mount("loop");
    }
}

fn run(program: &str, args: &[&std::ffi::OsStr]) {
    let done = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Every file below a folder, relative to it, with its size; sorted.
pub fn files_below(folder: &Path) -> Vec<(PathBuf, u64)> {
    fn walk(top: &Path, folder: &Path, found: &mut Vec<(PathBuf, u64)>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => walk(top, &path, found),
                Ok(metadata) => found.push((path.strip_prefix(top).expect("below").to_owned(), metadata.len())),
                // It may be deleted while we look.
                Err(_) => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}
