//! The reports on several files, as people and scripts get them. Whoever reads files and prints is elsewhere.

use std::fmt;

use crate::report::{Integrity, Report};
use crate::terminal::escape;

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Its name, as the reader gave it. Any text: escape it before printing.
    pub file: String,
    /// The report on its content.
    pub report: Report,
}

/// What became of each file, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileReports {
    files: Vec<FileReport>,
}

impl FileReports {
    /// Adds the report on a file and returns it with its name, to be printed as it comes.
    pub fn add(&mut self, file: String, report: Report) -> FileReport {
        let added = FileReport { file, report };
        self.files.push(added.clone());
        added
    }

    /// Returns the reports.
    #[must_use]
    pub fn files(&self) -> &[FileReport] {
        &self.files
    }

    /// Returns the worst verdict.
    #[must_use]
    pub fn integrity(&self) -> Integrity {
        self.files.iter().map(|it| it.report.integrity()).max().unwrap_or(Integrity::Undecided)
    }

    /// Returns the line that counts the verdicts of several files; nothing for one.
    #[must_use]
    pub fn summary(&self) -> String {
        if self.files.len() < 2 {
            return String::new();
        }
        let count = |verdict| self.files.iter().filter(|it| it.report.integrity() == verdict).count();
        let (verified, wrong, undecided) = (count(Integrity::Verified), count(Integrity::ProvenWrong), count(Integrity::Undecided));
        format!("{} files: {verified} verified, {wrong} proven wrong, {undecided} could not be decided\n", self.files.len())
    }
}

/// The report for people, an empty line behind it. Safe for terminals.
impl fmt::Display for FileReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {}", escape(&self.file), self.report)
    }
}

/// All reports for people, and the count.
impl fmt::Display for FileReports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.iter().try_for_each(|it| it.fmt(out))?;
        out.write_str(&self.summary())
    }
}
