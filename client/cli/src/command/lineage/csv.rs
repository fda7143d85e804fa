//! Entries as comma-separated values. A spreadsheet executes cells that begin in certain ways: they get an apostrophe.

use proofline_verifier::{FoundEntry, escape};

use crate::describe::Described;

const COLUMNS: [&str; 8] = ["index", "committed", "kind", "session", "what", "actor", "decision", "leaf"];

pub(super) fn heading() -> String {
    format!("{}\r\n", COLUMNS.join(","))
}

pub(super) fn line(of: &FoundEntry, described: &Described) -> String {
    let [index, time, kind, what, actor, decision] = described.row();
    let session = described.session_id().unwrap_or_default().to_owned();
    let cells = [index, time, kind, session, what, actor, decision, of.leaf.to_string()];
    format!("{}\r\n", cells.map(|text| cell(&text)).join(","))
}

/// Quotes a cell, and takes from it what a spreadsheet or a terminal would act on.
fn cell(text: &str) -> String {
    let is_active = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let harmless = format!("{}{}", if is_active { "'" } else { "" }, escape(text));
    format!("\"{}\"", harmless.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_ends_its_line() {
        let cells: Vec<_> = ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "a\"b", "a,b\nc", "\u{202e}x"].into_iter().map(cell).collect();
        assert_eq!(
            cells,
            ["\"'=1+1\"", "\"'+x\"", "\"'-x\"", "\"'@x\"", "\"'\\tx\"", "\"'\\rx\"", "\"a\"\"b\"", "\"a,b\\nc\"", "\"\\u{202e}x\""]
        );
    }
}
