//! What happens to a disk, seen by files on it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use proofline_jepsen::{leftovers::RunMark, nodes::Disk};

/// Dropped in this order: the disk, the mark, the directory.
struct Mounted {
    disk: Disk,
    _mark: RunMark,
    _directory: tempfile::TempDir,
}

fn mounted() -> Mounted {
    let directory = tempfile::tempdir().unwrap();
    let mark = RunMark::place(directory.path()).unwrap();
    let disk = Disk::create(&directory.path().join("disk.img"), &directory.path().join("disk"), 64).unwrap();
    Mounted { disk, _mark: mark, _directory: directory }
}

fn write(path: &Path, bytes: &[u8]) -> File {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn a_loss_of_power_takes_what_was_not_fsynced_and_nothing_else() {
    let mut mounted = mounted();
    let root = mounted.disk.path().to_owned();
    write(&root.join("kept"), &[1; 4_096]).sync_all().unwrap();
    File::open(&root).unwrap().sync_all().unwrap();
    write(&root.join("kept"), &[2; 4_096]);
    write(&root.join("never"), &[3; 4_096]);
    assert_eq!(fs::metadata(root.join("kept")).unwrap().len(), 8_192);
    let loss = mounted.disk.lose_power().unwrap();
    assert_eq!(fs::read(root.join("kept")).unwrap(), [1; 4_096], "what was fsynced is there");
    assert!(!root.join("never").exists());
    assert_eq!((loss.bytes_lost, loss.files_lost), (8_192, 1));
}

#[test]
fn without_a_loss_of_power_nothing_is_lost() {
    // The control: the same writes, and the same mount, without the fault.
    let mut mounted = mounted();
    let root = mounted.disk.path().to_owned();
    write(&root.join("file"), &[3; 4_096]);
    mounted.disk.mount_again().unwrap();
    assert_eq!(fs::read(root.join("file")).unwrap(), [3; 4_096]);
}

#[test]
fn a_full_disk_has_no_room_until_it_is_released() {
    let mounted = mounted();
    let root = mounted.disk.path().to_owned();
    assert!(mounted.disk.fill().unwrap() > 10 << 20);
    let written = fs::write(root.join("more"), vec![1; 1 << 20]);
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    mounted.disk.release().unwrap();
    fs::write(root.join("more"), vec![1; 1 << 20]).unwrap();
}

#[test]
fn a_disk_that_refuses_writes_takes_them_again_after_it_is_mounted_again() {
    let mut mounted = mounted();
    let root = mounted.disk.path().to_owned();
    let mut open = write(&root.join("open"), b"before");
    open.sync_all().unwrap();
    mounted.disk.refuse_writes().unwrap();
    assert!(open.write_all(b"after").and_then(|()| open.sync_all()).is_err(), "also what was open for writing");
    assert!(File::create(root.join("new")).is_err());
    assert_eq!(fs::read(root.join("open")).unwrap(), b"before", "it can be read");
    drop(open);
    mounted.disk.mount_again().unwrap();
    fs::write(root.join("new"), b"x").unwrap();
    assert_eq!(fs::read(root.join("open")).unwrap(), b"before");
}

#[test]
fn a_frozen_disk_lets_writers_wait_until_it_is_thawed() {
    let mounted = mounted();
    let path = mounted.disk.path().join("file");
    mounted.disk.freeze().unwrap();
    let (done, waiting) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        write(&path, b"x").sync_all().unwrap();
        done.send(()).unwrap();
    });
    assert!(waiting.recv_timeout(Duration::from_millis(300)).is_err(), "the write waits");
    mounted.disk.thaw().unwrap();
    waiting.recv_timeout(Duration::from_secs(5)).expect("the write goes on");
    writer.join().unwrap();
}

#[test]
fn a_slow_disk_takes_its_time_for_every_fsync() {
    if !Disk::can_be_slow() {
        // A machine without the controller has no such fault: the harness says that it was skipped.
        return;
    }
    let mounted = mounted();
    let path = mounted.disk.path().join("file");
    let ten_fsyncs = || {
        let began = Instant::now();
        (0..10).for_each(|_| write(&path, &[1; 4_096]).sync_all().unwrap());
        began.elapsed()
    };
    mounted.disk.limit_writes(10).unwrap();
    let slow = ten_fsyncs();
    mounted.disk.limit_writes(0).unwrap();
    let fast = ten_fsyncs();
    assert!(slow > Duration::from_millis(900) && fast < slow / 2, "slow {slow:?}, fast {fast:?}");
}
