//! Finds the statements of a text without parsing it, so that nothing is parsed that would need a stack without bounds.

use super::check::{RuleFault, RuleProblem, place};
use crate::limits::{RULE_BYTES_MAX, RULE_DEPTH_MAX};

/// One statement, by its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Statement {
    /// Where it begins in the text.
    pub(super) start: usize,
    /// How long it is, without comments.
    bytes: usize,
    /// How deep its brackets nest.
    nesting: usize,
}

impl Statement {
    /// Tells what is too large to be parsed. Each level of an expression takes two brackets at most: its own, and one around it.
    pub(super) fn too_large(&self, text: &str) -> Option<RuleProblem> {
        let fault = if self.nesting > 2 * RULE_DEPTH_MAX {
            RuleFault::TooDeep { depth: self.nesting }
        } else if self.bytes > RULE_BYTES_MAX {
            RuleFault::RuleTooLong(self.bytes)
        } else {
            return None;
        };
        let (line, column) = place(text, self.start);
        Some(RuleProblem { line, column, rule: String::new(), fault })
    }
}

/// Returns the statements of a text: each ends with its semicolon, the last one with the text.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut open: Option<(Statement, usize)> = None;
    let mut at = 0;
    while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
        let step = match rest {
            [b'/', b'/', ..] => {
                at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                continue;
            }
            [b'"', ..] => string(rest),
            _ => 1,
        };
        let first = rest.first().copied().unwrap_or_default();
        if open.is_some() || !first.is_ascii_whitespace() {
            let (statement, depth) = open.get_or_insert((Statement { start: at, ..Statement::default() }, 0));
            statement.bytes += step;
            match first {
                b'(' | b'[' | b'{' => *depth += 1,
                b')' | b']' | b'}' => *depth = depth.saturating_sub(1),
                _ => (),
            }
            statement.nesting = statement.nesting.max(*depth);
            if first == b';' {
                found.extend(open.take().map(|(statement, _)| statement));
            }
        }
        at += step;
    }
    found.extend(open.map(|(statement, _)| statement));
    found
}

/// Returns the length of the string that begins here, its quotes included.
fn string(from: &[u8]) -> usize {
    let mut is_escaped = false;
    for (at, byte) in from.iter().enumerate().skip(1) {
        match byte {
            b'\\' if !is_escaped => is_escaped = true,
            b'"' if !is_escaped => return at + 1,
            _ => is_escaped = false,
        }
    }
    from.len()
}
