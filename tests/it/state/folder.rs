//! The folder that the state is in: made for its user alone, used by one process at a time, and never
//! begun anew where something is there.

use std::fs;
use std::path::Path;
use std::process::Command;

use chaturdata_proxy::store::backend::{Backend, Table};
use chaturdata_proxy::store::disk::{Disk, Error, Fault, Folder, Opened};

use super::{Contents, Random, apply, put, random_write, skipped, small};

fn open(dir: &Path) -> Result<(Opened, Contents), Error> {
    let mut contents = Contents::new();
    let opened = Disk::open(dir, &mut |table, key, value| {
        contents.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    })?;
    Ok((opened, contents))
}

fn refused(dir: &Path) -> Fault {
    open(dir).unwrap_err().fault
}

async fn close(opened: Opened) {
    tokio::join!(opened.disk.close(), opened.serving);
}

#[tokio::test]
async fn what_is_written_is_there_after_a_restart_with_its_salt() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("some/where");
    let (first, nothing) = open(&dir).unwrap();
    let facts = first.facts.clone();
    first.disk.queue(vec![put(Table::Handles, "a", "b")]);
    assert!(dir.join("state.journal").exists());
    close(first).await;
    assert!(!dir.join("state.journal").exists());

    let (second, found) = open(&dir).unwrap();

    assert!(nothing.is_empty() && !second.is_new);
    assert_eq!(found.len(), 1);
    assert_eq!(second.facts.salt, facts.salt);
    assert!(second.facts.written >= facts.written);
    assert_ne!(facts.salt, [0; 32]);
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("state");
    let (opened, _) = open(&dir).unwrap();
    close(opened).await;
    Folder::lock(&dir).unwrap().compact().unwrap();
    drop(open(&dir).unwrap());

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

    assert_eq!(mode(&dir), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600);
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(
        names,
        ["state.journal", "state.lock", "state.redb", "state.reserve"]
    );
}

#[tokio::test]
async fn one_process_has_it_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let (first, _) = open(home.path()).unwrap();

    assert!(matches!(refused(home.path()), Fault::Busy));
    let looked = Folder::lock_untouched(home.path()).unwrap_err();
    assert!(matches!(looked.fault, Fault::Busy));

    close(first).await;
    let (second, _) = open(home.path()).unwrap();
    assert!(!second.is_new);
}

#[test]
fn what_is_there_is_never_begun_anew() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state.redb");
    for (bytes, is_foreign) in [
        (&b""[..], false),
        (b"redb", false),
        (b"a file of another program", true),
        (&[0; 5000], true),
    ] {
        fs::write(&path, bytes).unwrap();

        let fault = refused(home.path());

        match fault {
            Fault::Foreign => assert!(is_foreign),
            Fault::Damaged(_) => assert!(!is_foreign),
            other => panic!("{other}"),
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_no_obstacle() {
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join("state.redb.new"),
        b"redb, but not all of it",
    )
    .unwrap();

    let (opened, found) = open(home.path()).unwrap();

    assert!(opened.is_new && found.is_empty());
    assert!(!home.path().join("state.redb.new").exists());
}

#[tokio::test]
async fn a_look_at_a_damaged_state_comes_to_an_end_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state.redb");
    let (image, written) = small(11).await;
    let mut random = Random(2);
    for _ in 0..300 {
        let mut damaged = image.database.clone();
        for _ in 0..1 + random.below(3) {
            let at = 320 + random.below(damaged.len() - 320);
            damaged[at] = random.next().to_le_bytes()[0];
        }
        fs::write(&path, &damaged).unwrap();

        let folder = Folder::lock_untouched(home.path()).unwrap();
        let report = folder.check(&mut |_, _, _| Ok(())).unwrap();

        let good: u64 = report.tables.iter().map(|table| table.good).sum();
        assert!(report.fault.is_some() || good == written.len() as u64);
        assert!(good <= 2 * written.len() as u64);
        assert!(fs::read(&path).unwrap() == damaged);
    }
}

#[test]
fn what_cannot_be_read_or_made_is_said() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    fs::create_dir(home.path().join("state.redb")).unwrap();

    let within_a_file = open(&file).unwrap_err();
    let a_folder = open(home.path()).unwrap_err();

    assert!(matches!(within_a_file.fault, Fault::Unwritable(_)));
    assert!(within_a_file.to_string().contains("--state-dir"));
    assert!(matches!(a_folder.fault, Fault::Unreadable(_)));
}

/// A file system of so many bytes, gone with its owner. `None` where none can be had.
struct Small(tempfile::TempDir);

impl Small {
    fn mounted(bytes: u32) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(home.path())
            .output();
        mounted
            .is_ok_and(|mounted| mounted.status.success())
            .then_some(Self(home))
    }

    fn grow(&self, bytes: u32) {
        let mounted = Command::new("mount")
            .args(["-o", &format!("remount,size={bytes}")])
            .arg(self.0.path())
            .status();
        assert!(mounted.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_keeps_what_was_acknowledged() {
    // Without space for a journal, and with it.
    for bytes in [512 << 10, 4 << 20] {
        let Some(small) = Small::mounted(bytes) else {
            skipped("no disk was filled: a small file system needs root");
            return;
        };
        let dir = small.0.path();
        let (opened, mut acknowledged) = open(dir).unwrap();
        let disk = opened.disk.clone();
        let mut last = acknowledged.clone();
        let filling = async {
            let mut random = Random(1);
            for number in 0_u64.. {
                let mut write = random_write(&mut random);
                write.key = number.to_le_bytes().to_vec();
                apply(&mut last, &write);
                disk.queue(vec![write]);
                if disk.flushed().await.is_err() {
                    break;
                }
                acknowledged = last.clone();
            }
            disk.close().await;
        };
        tokio::join!(filling, opened.serving);
        assert!(disk.is_degraded());
        assert!(!dir.join("state.reserve").exists());

        let compacted = Folder::lock(dir).unwrap().compact().unwrap_err();
        assert!(matches!(compacted.fault, Fault::Unwritable(_)));
        assert!(!dir.join("state.redb.new").exists());
        // The database has no room for what only the journal has.
        let is_there = match open(dir).map_err(|refused| refused.fault) {
            Ok((_, found)) => found == acknowledged || found == last,
            Err(fault) => matches!(fault, Fault::Unwritable(_)) && bytes > 1 << 20,
        };
        assert!(is_there);

        small.grow(8 << 20);
        let (_, found) = open(dir).unwrap();
        assert!(acknowledged.len() > 10);
        assert!(found == acknowledged || found == last);
    }
}

#[tokio::test]
async fn a_disk_that_others_fill_has_room_for_what_is_under_way() {
    let Some(small) = Small::mounted(16 << 20) else {
        skipped("no disk was filled: a small file system needs root");
        return;
    };
    let dir = small.0.path();
    let (opened, mut expected) = open(dir).unwrap();
    let disk = opened.disk.clone();
    let filler = dir.join("filler");
    let mut full = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut full, &[7; 4096]).is_ok() {}
    let writing = async {
        let mut random = Random(2);
        for number in 0..2_000_u64 {
            let mut write = random_write(&mut random);
            write.key = number.to_le_bytes().to_vec();
            apply(&mut expected, &write);
            disk.queue(vec![write]);
            assert_eq!(disk.flushed().await, Ok(()), "record {number}");
        }
        disk.close().await;
    };
    tokio::join!(writing, opened.serving);

    assert!(disk.is_degraded());
    assert!(!dir.join("state.reserve").exists());
    drop(full);
    fs::remove_file(filler).unwrap();
    let (again, found) = open(dir).unwrap();
    assert!(found == expected);
    assert!(!again.disk.is_degraded());
    assert!(dir.join("state.reserve").exists());
}

#[test]
fn a_full_disk_takes_no_new_state_and_says_so() {
    let Some(small) = Small::mounted(16 << 10) else {
        skipped("no disk was filled: a small file system needs root");
        return;
    };

    let fault = refused(small.0.path());

    assert!(matches!(fault, Fault::Unwritable(_)), "{fault}");
    assert!(!small.0.path().join("state.redb").exists());
}
