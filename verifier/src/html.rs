//! Reports for people, as one page: no scripts, nothing from elsewhere, fit for paper.
//!
//! Always true: a page is made of verified evidence alone, and text of strangers stands in it escaped, so that it can neither
//! become markup nor reverse or hide what is around it.

mod picture;
mod text;
mod timeline;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::completeness::EntryKeys;
use crate::consistency::HeldCheckpoint;
use crate::control::{ControlRules, controls};
use crate::entry::LogEntry;
use crate::evidence::verify_shown;
use crate::policy::Policy;
use crate::report::{Completeness, EvidenceKind, Integrity, Report};
use crate::reports::FileReport;
use picture::Picture;
use text::safe;
use timeline::Row;

const STYLE: &str = include_str!("html/style.css");
/// Rows of the timeline that are shown; those behind them are counted.
const ROWS_MAX: usize = 5_000;

/// A page about verified files, file by file.
#[derive(Clone, Debug, Default)]
pub struct HtmlReport {
    articles: Vec<String>,
}

/// What the entries of one file say.
#[derive(Default)]
struct Content {
    rows: Vec<Row>,
    entries: u64,
    findings: Vec<Row>,
    rules: Vec<String>,
    picture: Picture,
}

impl HtmlReport {
    /// Verifies a file as [`crate::verify`] does. When its integrity is verified the page gets a part about it.
    #[must_use]
    pub fn verify(&mut self, name: &str, file: &[u8], policy: &Policy, held: Option<&HeldCheckpoint>) -> Report {
        let mut content = Content::default();
        let report = verify_shown(file, policy, held, &mut |entry| content.add(entry));
        if report.integrity() == Integrity::Verified {
            let of = FileReport { file: name.to_owned(), report };
            self.articles.push(content.article(&of));
            return of.report;
        }
        report
    }

    /// Returns the page; nothing when no file was verified.
    #[must_use]
    pub fn render(&self) -> Option<String> {
        if self.articles.is_empty() {
            return None;
        }
        let style_hash = STANDARD.encode(Sha256::digest(STYLE));
        Some(format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'\">\n<meta name=\"viewport\" content=\"width=device-width\"><title>Evidence report</title>\n<style>{STYLE}</style></head><body>\n{}</body></html>\n",
            self.articles.concat()
        ))
    }
}

impl Content {
    fn add(&mut self, entry: &LogEntry) {
        let row = Row::of(entry);
        self.entries += 1;
        self.rules.extend(row.findings.iter().cloned());
        if (!row.findings.is_empty() || row.containment.is_some()) && self.findings.len() < ROWS_MAX {
            self.findings.push(row.clone());
        }
        if self.rows.len() < ROWS_MAX {
            self.rows.push(row);
        }
        self.picture.add(&EntryKeys::of(entry));
    }

    fn article(&self, of: &FileReport) -> String {
        let kind = of.report.kind.map_or("", EvidenceKind::as_str);
        [
            format!("<article><h1>{}</h1><p class=\"note\">{kind}</p>", safe(&of.file)),
            verdicts(&of.report),
            facts(&of.report),
            self.timeline(),
            self.lineage(),
            self.found(),
            self.mapping(),
            checks(&of.report),
            "</article>\n".to_owned(),
        ]
        .concat()
    }

    fn timeline(&self) -> String {
        let rows: String = self.rows.iter().map(Row::html).collect();
        let more = self.entries.saturating_sub(self.rows.len() as u64);
        let more = if more > 0 {
            format!("<p class=\"note\">{more} further entries are in the file and not shown here.</p>")
        } else {
            String::new()
        };
        let head = "<tr><th>Entry</th><th>Committed</th><th>Agent</th><th>Session</th><th>Action</th><th>Resource</th><th>Verdict</th><th>Findings</th></tr>";
        format!("<h2>Timeline</h2><table><thead>{head}</thead><tbody>{rows}</tbody></table>{more}\n")
    }

    fn lineage(&self) -> String {
        let picture = self.picture.draw();
        if picture.is_empty() {
            picture
        } else {
            format!(
                "<h2>Lineage</h2><p class=\"note\">Principals and agents, sessions, tools and credentials, resources and systems.</p>{picture}\n"
            )
        }
    }

    fn found(&self) -> String {
        if self.findings.is_empty() {
            return "<h2>Findings and containment</h2><p>None among these entries.</p>\n".to_owned();
        }
        let rows: String = self.findings.iter().map(Row::finding_html).collect();
        let head = "<tr><th>Entry</th><th>Committed</th><th>Rule or change</th><th>About</th><th>Verdict</th></tr>";
        format!("<h2>Findings and containment</h2><table><thead>{head}</thead><tbody>{rows}</tbody></table>\n")
    }

    /// What these entries may be shown for. A control is not met because a row stands here.
    fn mapping(&self) -> String {
        let mut rows = String::new();
        for control in controls() {
            let (count, what) = match control.rules {
                ControlRules::EveryEntry => (self.entries, "entries"),
                ControlRules::EveryRule | ControlRules::Codes(_) => {
                    (self.rules.iter().filter(|rule| control.takes_rule(rule)).count() as u64, "findings")
                }
            };
            if count > 0 {
                rows += &format!(
                    "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{count} {what}</td></tr>",
                    safe(control.id),
                    safe(control.source),
                    safe(control.shows)
                );
            }
        }
        let note = "<p class=\"note\">What a reviewer may look at; not a statement that a control is met.</p>";
        let head = "<tr><th>Control</th><th>Source</th><th>What the ledger shows</th><th>In this file</th></tr>";
        format!("<h2>Control mapping</h2>{note}<table><thead>{head}</thead><tbody>{rows}</tbody></table>\n")
    }
}

fn verdicts(of: &Report) -> String {
    let class = match of.completeness {
        Completeness::Complete => "good",
        Completeness::NotClaimed | Completeness::OpenEnded | Completeness::Unknown | Completeness::Incomplete => "open",
    };
    format!(
        "<p><span class=\"verdict good\">Integrity: {}</span><span class=\"verdict {class}\">Completeness: {}</span></p>\n",
        of.integrity().as_str(),
        of.completeness.as_str()
    )
}

fn facts(of: &Report) -> String {
    let row = |name: &str, value: &str| format!("<tr><th>{}</th><td>{}</td></tr>", safe(name), safe(value));
    let rows: String = of.facts.iter().map(|fact| row(fact.name, &fact.value)).collect();
    let warnings: String = of.warnings.iter().map(|warning| format!("<p class=\"deny\">{}</p>", safe(warning))).collect();
    format!("<h2>Summary</h2>{warnings}<table class=\"facts\"><tbody>{rows}</tbody></table>\n")
}

fn checks(of: &Report) -> String {
    let rows: String = of
        .checks
        .iter()
        .map(|check| {
            format!("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", check.outcome.as_str(), check.name.as_str(), safe(&check.detail))
        })
        .collect();
    let open: String = of.not_proven.iter().map(|it| format!("<li>{}</li>", safe(it.sentence()))).collect();
    format!(
        "<h2>What was checked</h2><table><thead><tr><th>Outcome</th><th>Check</th><th>Detail</th></tr></thead><tbody>{rows}</tbody></table>\n<h2>What is not proven</h2><ul>{open}</ul>\n"
    )
}
