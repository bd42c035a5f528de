//! `state check`, `state compact` and `state reset`, and starts on a state that is not as it should be.

use std::fs;
use std::path::PathBuf;

use chaturdata_proxy::ids::{Handle, Tenant, TextHash};
use chaturdata_proxy::store::backend::{Backend, Table, Write};
use chaturdata_proxy::store::disk::{Disk, SCHEMA};
use chaturdata_proxy::store::{BranchId, HandleHash, HandleRecord, record};

use super::former::{SECOND, second};
use super::medium::Medium;
use super::{open, put, skipped};
use crate::binary::{Program, Run};

/// The program, and where its state is.
struct Kept {
    program: Program,
    dir: PathBuf,
    file: PathBuf,
}

impl Kept {
    fn new() -> Self {
        let program = Program::new();
        let dir = program.home.path().join("state");
        let file = dir.join("state.redb");
        Self { program, dir, file }
    }

    /// With records that say nothing, replaced often enough to leave gaps.
    async fn with_records() -> Self {
        let kept = Self::new();
        let opened = Disk::open(&kept.dir, &mut |_, _, _| Ok(())).unwrap();
        let writing = async {
            for round in 0..20 {
                for number in 0..20 {
                    let value = "x".repeat(100 * round + number);
                    opened
                        .disk
                        .queue(vec![put(Table::Turns, &format!("{number}"), &value)]);
                }
                opened.disk.flushed().await.unwrap();
            }
            opened.disk.close().await;
        };
        tokio::join!(writing, opened.serving);
        kept
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let dir = self.dir.to_str().unwrap();
        self.program
            .run(&[arguments, &["--state-dir", dir]].concat())
    }

    /// Started and stopped once.
    fn used() -> Self {
        let kept = Self::new();
        let dir = kept.dir.to_str().unwrap();
        let run = kept
            .program
            .serve(&["--sandbox", "--state-dir", dir])
            .end("TERM");
        assert_eq!(run.code, Some(0), "{}", run.err);
        kept
    }

    /// Overwrites a part of the file that is in use.
    fn damage(&self) -> Vec<u8> {
        let mut bytes = fs::read(&self.file).unwrap();
        bytes[4096..].fill(b'?');
        fs::write(&self.file, &bytes).unwrap();
        bytes
    }

    /// With records that say something, one of which only the journal has, for the process was killed.
    async fn killed() -> Self {
        let kept = Self::new();
        fs::create_dir(&kept.dir).unwrap();
        fs::write(&kept.file, SECOND).unwrap();
        kept.go_on(1, false).await;
        kept
    }

    /// Has a process write one more record, and then close the state or be killed.
    async fn go_on(&self, number: u64, closed: bool) {
        let leads = HandleRecord {
            branch: BranchId(number),
            delta: true,
            created: 1_800_000_000,
        };
        let hash = HandleHash::of(&(Tenant([7; 32]), Handle(number.to_string().into())));
        let write = Write {
            table: Table::Handles,
            key: record::handle_key(hash, leads.created),
            value: Some(record::handle_value(leads)),
        };
        let opened = Disk::open(&self.dir, &mut |_, _, _| Ok(())).unwrap();
        let writing = async {
            opened.disk.queue(vec![write]);
            opened.disk.flushed().await.unwrap();
            if closed {
                opened.disk.close().await;
            }
        };
        tokio::select! {
            () = writing => {}
            () = opened.serving => {}
        }
    }

    /// How many records there are.
    fn records(&self) -> usize {
        let mut found = 0;
        Disk::open(&self.dir, &mut |_, _, _| {
            found += 1;
            Ok(())
        })
        .unwrap();
        found
    }

    /// What was said, without the folder's name.
    fn shown(&self, said: &str) -> String {
        said.replace(self.dir.to_str().unwrap(), "DIR")
    }
}

#[cfg(unix)]
#[test]
fn a_good_state_is_said_to_be_good() {
    let kept = Kept::used();
    let before = fs::read(&kept.file).unwrap();

    let run = kept.run(&["state", "check"]);

    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = run.out.lines().collect();
    assert!(
        lines[0].contains(&format!(" bytes, schema {SCHEMA}, last written 20")),
        "{}",
        run.out
    );
    assert_eq!(lines[1], "branches: 0 records");
    assert_eq!(lines.last(), Some(&"the state is good"));
    assert!(fs::read(&kept.file).unwrap() == before);
}

#[test]
fn a_state_of_an_earlier_version_is_checked_as_it_is_and_compacted_to_one_of_this() {
    let kept = Kept::new();
    fs::create_dir(&kept.dir).unwrap();
    fs::write(&kept.file, SECOND).unwrap();

    let checked = kept.run(&["state", "check"]);
    let left = fs::read(&kept.file).unwrap();
    let compacted = kept.run(&["state", "compact"]);
    let again = kept.run(&["state", "check"]);

    assert!(left == SECOND);
    let (opened, found) = open(&Medium::of(fs::read(&kept.file).unwrap())).unwrap();
    assert_eq!(found, second().1);
    // It goes on with the hashes that are in it.
    assert_eq!(opened.facts.texts, TextHash::Sha256);
    for (run, schema) in [(&checked, 2), (&again, SCHEMA)] {
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
        let (first, others) = run.out.split_once('\n').unwrap();
        assert!(first.contains(&format!(" schema {schema}, ")), "{first}");
        assert!(others.contains("\nhandles: 13 records\n"), "{others}");
        assert!(others.ends_with("the state is good\n"), "{others}");
    }
    assert_eq!(compacted.code, Some(0), "{}", compacted.err);
}

#[test]
fn where_there_is_no_state_nothing_is_made() {
    let kept = Kept::new();
    for command in [
        &["state", "check"][..],
        &["state", "compact"],
        &["state", "reset"],
    ] {
        let run = kept.run(command);

        assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
        assert_eq!(kept.shown(&run.out), "there is no state in DIR\n");
    }
    assert!(!kept.dir.exists());
}

#[cfg(unix)]
#[test]
fn a_damaged_state_is_told_of_and_left_alone_by_everything_but_a_reset() {
    let kept = Kept::used();
    let damaged = kept.damage();

    let checked = kept.run(&["state", "check"]);
    let compacted = kept.run(&["state", "compact"]);
    let started = kept.run(&["--sandbox", "--listen", "127.0.0.1:0"]);

    for run in [&checked, &compacted, &started] {
        assert_eq!(run.code, Some(1), "{}", run.err);
        let said = kept.shown(run.err.lines().last().unwrap());
        assert!(
            said.starts_with("chaturdata-proxy: DIR/state.redb is damaged ("),
            "{said}"
        );
        assert!(
            said.contains("state check") && said.contains("state reset"),
            "{said}"
        );
    }
    assert_eq!(checked.line(), compacted.line());
    assert!(!started.err.contains("listening"), "{}", started.err);
    assert!(fs::read(&kept.file).unwrap() == damaged);

    let reset = kept.run(&["state", "reset", "--yes"]);

    assert_eq!(reset.code, Some(0));
    assert!(!kept.file.exists());
}

#[tokio::test]
async fn records_that_mean_nothing_are_damage_too() {
    let kept = Kept::with_records().await;

    let checked = kept.run(&["state", "check"]);

    assert_eq!(checked.code, Some(1));
    assert!(
        checked.out.contains("turns: 20 records\n"),
        "{}",
        checked.out
    );
    assert!(
        checked.line().contains("a record of turns means nothing"),
        "{}",
        checked.err
    );
}

#[tokio::test]
async fn a_compacted_state_is_smaller_and_holds_the_same() {
    let kept = Kept::with_records().await;
    let before = fs::metadata(&kept.file).unwrap().len();

    let run = kept.run(&["state", "compact"]);

    let after = fs::metadata(&kept.file).unwrap().len();
    assert_eq!(run.out, format!("{before} bytes before, {after} after\n"));
    assert!(after < before, "{after}, {before}");
    let mut found = 0;
    Disk::open(&kept.dir, &mut |table, key, value| {
        assert_eq!(table, Table::Turns);
        let number: usize = str::from_utf8(key).unwrap().parse().unwrap();
        assert_eq!(value.len(), 1900 + number);
        found += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(found, 20);
}

#[tokio::test]
async fn what_the_journal_of_a_killed_process_has_is_looked_at_kept_and_forgotten_with_the_state() {
    let kept = Kept::killed().await;
    let journal = kept.dir.join("state.journal");
    let before = [&kept.file, &journal].map(|path| fs::read(path).unwrap());

    let checked = kept.run(&["state", "check"]);
    let after = [&kept.file, &journal].map(|path| fs::read(path).unwrap());
    let compacted = kept.run(&["state", "compact"]);

    assert!(
        checked.out.contains("\nhandles: 14 records\n"),
        "{}",
        checked.out
    );
    assert!(
        checked.out.ends_with("the state is good\n"),
        "{}",
        checked.out
    );
    assert!(before == after);
    assert_eq!(compacted.code, Some(0), "{}", compacted.err);
    assert!(!journal.exists());
    assert_eq!(kept.records(), second().1.len() + 1);

    let kept = Kept::killed().await;
    let reset = kept.run(&["state", "reset", "--yes"]);

    assert_eq!(reset.code, Some(0), "{}", reset.err);
    assert!(!kept.dir.join("state.journal").exists());
    assert_eq!(kept.records(), 0);
}

#[tokio::test]
async fn a_copy_that_was_put_back_is_read_once_the_journal_of_a_later_state_is_gone() {
    let kept = Kept::killed().await;
    kept.go_on(2, true).await;
    let copy = fs::read(&kept.file).unwrap();
    kept.go_on(3, true).await;
    kept.go_on(4, false).await;

    fs::write(&kept.file, copy).unwrap();
    let beside = kept.run(&["state", "check"]);
    fs::remove_file(kept.dir.join("state.journal")).unwrap();
    let alone = kept.run(&["state", "check"]);

    assert_eq!(beside.code, Some(1));
    assert_eq!(
        kept.shown(beside.line()),
        "chaturdata-proxy: DIR/state.redb is not what state.journal beside it follows on, and both are left as they \
         are; remove state.journal if this file is a copy that was put back, or begin anew with `chaturdata-proxy \
         state reset`"
    );
    assert_eq!(alone.code, Some(0), "{}", alone.err);
    assert_eq!(kept.records(), second().1.len() + 2);
}

#[cfg(unix)]
#[test]
fn a_state_in_use_is_not_touched() {
    let kept = Kept::new();
    let dir = kept.dir.to_str().unwrap();
    let serving = kept.program.serve(&["--sandbox", "--state-dir", dir]);

    for command in [
        &["state", "check"][..],
        &["state", "compact"],
        &["state", "reset", "--yes"],
        &["--sandbox", "--listen", "127.0.0.1:0"],
    ] {
        let run = kept.run(command);

        assert_eq!(run.code, Some(1));
        assert_eq!(
            kept.shown(run.line()),
            "chaturdata-proxy: DIR/state.redb is in use by another proxy; stop that one, or give this one a \
             folder of its own with --state-dir"
        );
    }
    assert_eq!(serving.end("TERM").code, Some(0));
}

#[cfg(unix)]
#[test]
fn a_reset_asks_and_is_not_agreed_to_by_silence() {
    let kept = Kept::used();

    let run = kept.run(&["state", "reset"]);

    assert_eq!(run.code, Some(2));
    assert_eq!(
        run.line(),
        "chaturdata-proxy: nobody is here to ask; say --yes to forget what the state holds"
    );
    assert!(kept.file.exists());
}

#[test]
fn in_memory_nothing_is_written_anywhere() {
    let program = Program::with(&[("CHATURDATA_PROXY_STORE__KIND", "memory")]);

    let serving = program.serve(&["--sandbox"]);
    drop(serving);

    assert_eq!(fs::read_dir(program.home.path()).unwrap().count(), 0);
}

#[test]
fn without_a_folder_the_ways_out_are_named() {
    let program = Program::new();
    let without = |arguments: &[&str]| {
        let output = program
            .command(arguments)
            .env_remove("HOME")
            .output()
            .unwrap();
        Run::of(&output)
    };

    let started = without(&["--sandbox", "--listen", "127.0.0.1:0"]);
    let checked = without(&["state", "check"]);

    assert_eq!((started.code, checked.code), (Some(2), Some(2)));
    assert_eq!(
        checked.line(),
        "chaturdata-proxy: state.dir: this platform names no folder for the state; name one with --state-dir, or \
         keep nothing over a restart with store.kind = \"memory\""
    );
    assert!(started.err.ends_with(&checked.err), "{}", started.err);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_named_with_the_ways_out() {
    use std::os::unix::fs::PermissionsExt;
    let kept = Kept::used();
    let program = env!("CARGO_BIN_EXE_chaturdata-proxy");
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(kept.program.home.path(), 0o755);
    open(&kept.dir, 0o555);
    // Rights do not bind root.
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        program,
    ];
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command
            .args(nobody)
            .args(arguments)
            .arg("--state-dir")
            .arg(&kept.dir);
        command.output().ok().map(|output| Run::of(&output))
    };
    if run(&["--version"]).is_none_or(|run| run.code != Some(0)) {
        skipped(
            "no folder without rights was tried: it needs root, setpriv and a path open to all",
        );
        return;
    }

    let started = run(&["--sandbox", "--listen", "127.0.0.1:0"]).unwrap();
    let checked = run(&["state", "check"]).unwrap();

    assert_eq!((started.code, checked.code), (Some(1), Some(1)));
    assert!(
        started
            .err
            .contains("cannot be written; make room, choose another folder"),
        "{}",
        started.err
    );
    assert!(
        checked.err.contains("cannot be read: Permission denied"),
        "{}",
        checked.err
    );
}
