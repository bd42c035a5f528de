//! The commands that look after a state which no proxy uses.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;

use super::{print, say};
use crate::cli::StateCommand;
use crate::config;
use crate::store::Restored;
use crate::store::disk::{Folder, Report};

pub fn state(command: StateCommand, dir: &Path) -> Result<()> {
    // What is damaged makes the database panic: that is told as damage, in one line.
    std::panic::set_hook(Box::new(|_| {}));
    let seen = Folder::lock_untouched(dir)?;
    if !seen.is_used()? {
        return print(format!("there is no state in {}\n", dir.display()).as_bytes());
    }
    match command {
        StateCommand::Check => check(&seen),
        StateCommand::Compact => {
            drop(seen);
            let sizes = Folder::lock(dir)?.compact()?;
            let told = format!("{} bytes before, {} after\n", sizes.before, sizes.after);
            print(told.as_bytes())
        }
        StateCommand::Reset { yes } => {
            drop(seen);
            reset(&Folder::lock(dir)?, yes)
        }
    }
}

fn check(folder: &Folder) -> Result<()> {
    let report = folder.check(&mut |table, key, value| {
        // As a proxy reads it at its start.
        Restored::default().take(table, key, value)
    })?;
    print(told(folder, &report).as_bytes())?;
    match report.fault {
        Some(fault) => Err(folder.error(fault).into()),
        None => print(b"the state is good\n"),
    }
}

fn told(folder: &Folder, report: &Report) -> String {
    let mut text = format!("{}: {} bytes", folder.path().display(), report.size);
    if let Some(schema) = report.schema() {
        let _ = write!(text, ", schema {schema}");
    }
    if let Some(facts) = &report.facts {
        let written =
            Duration::from_millis(facts.written).min(Duration::from_secs(u32::MAX.into()));
        let written = humantime::format_rfc3339_seconds(UNIX_EPOCH + written);
        let _ = write!(text, ", last written {written}");
    }
    text.push('\n');
    for table in &report.tables {
        let _ = write!(text, "{}: {} records", table.table.as_str(), table.good);
        if table.bad > 0 {
            let _ = write!(text, ", and {} that are damaged", table.bad);
        }
        if !table.is_complete {
            text.push_str(", and an unknown number that cannot be reached");
        }
        text.push('\n');
    }
    text
}

fn reset(folder: &Folder, yes: bool) -> Result<()> {
    let path = folder.path().display();
    if !yes
        && !is_agreed(&format!(
            "This forgets every conversation and every run under way that {path} knows of: callers get new threads, to \
         which what they resend is told again, and answers that nobody has collected are lost. Caller keys stay.\n\
         Go on? [y/N] "
        ))?
    {
        say("nothing was changed");
        return Ok(());
    }
    folder.clear()?;
    say(&format!("{path} is gone; the next start makes a new one"));
    Ok(())
}

/// Asks a person, who must be there.
fn is_agreed(question: &str) -> Result<bool> {
    let mut input = io::stdin().lock();
    if !io::stdin().is_terminal() {
        let nobody = "nobody is here to ask; say --yes to forget what the state holds";
        return Err(config::Error(nobody.to_owned()).into());
    }
    let _ = write!(io::stderr(), "{question}");
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
