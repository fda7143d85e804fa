//! Writes a run in the forms of checkers that other people made; `jepsen/EXPORT.md` says how to run them.
//!
//! ```text
//! history.edn             every operation and fault, as Jepsen writes them
//! elle-list-append.edn    appends to and reads of sessions, for Elle
//! porcupine.jsonl         each lane's openings and appends, for Porcupine
//! checkpoints/*.note      every different checkpoint that was seen, as a C2SP signed note
//! policy.txt              whose signatures count
//! ```
//! Always true: every file is made of the history and the final state alone; the same run gives the same bytes.

mod edn;
mod elle;
mod jepsen;
mod porcupine;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use crate::{
    checks::{Case, Reading},
    history::Digest,
};

/// How much was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Lines of `history.edn`.
    pub history: usize,
    /// Lines of `elle-list-append.edn`.
    pub elle: usize,
    /// Lines of `porcupine.jsonl`.
    pub porcupine: usize,
    /// Checkpoints.
    pub checkpoints: usize,
}

/// Writes every form of a run into a directory.
///
/// # Errors
/// When a file cannot be written.
pub fn write_all(case: &Case, directory: &Path) -> io::Result<Exported> {
    fs::create_dir_all(directory.join("checkpoints"))?;
    let reading = Reading::of(case);
    for (place, policy) in case.finals.policies.iter().enumerate() {
        let name = if place == 0 { "policy.txt".to_owned() } else { format!("policy-{}.txt", place + 1) };
        fs::write(directory.join(name), policy.encode())?;
    }
    Ok(Exported {
        history: write_lines(&directory.join("history.edn"), jepsen::lines(&case.history))?,
        elle: write_lines(&directory.join("elle-list-append.edn"), elle::lines(&reading))?,
        porcupine: write_lines(&directory.join("porcupine.jsonl"), porcupine::lines(&reading))?,
        checkpoints: write_checkpoints(&reading, &directory.join("checkpoints"))?,
    })
}

fn write_lines(path: &Path, lines: impl IntoIterator<Item = String>) -> io::Result<usize> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut count = 0;
    for line in lines {
        writeln!(out, "{line}")?;
        count += 1;
    }
    out.flush()?;
    Ok(count)
}

fn write_checkpoints(reading: &Reading<'_>, directory: &Path) -> io::Result<usize> {
    let seen = reading.checkpoints().into_iter().filter(|(checkpoint, ..)| !checkpoint.note.is_empty());
    let notes: BTreeMap<(u64, &str), ()> = seen.map(|(checkpoint, ..)| ((checkpoint.size, checkpoint.note.as_str()), ())).collect();
    for (size, note) in notes.keys() {
        let digest = Digest::of(note.as_bytes()).to_string();
        fs::write(directory.join(format!("{size:012}-{}.note", digest.get(..8).unwrap_or_default())), note)?;
    }
    Ok(notes.len())
}
