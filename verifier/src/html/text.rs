//! Text of strangers in a page.

use crate::terminal;

/// Longest text of a stranger that is shown whole, in characters.
const CHARACTERS_MAX: usize = 240;

/// Makes text safe to stand in an element or a quoted attribute: markup, control and bidirectional characters come out
/// visible, and what is very long is cut and says so.
pub(super) fn safe(text: &str) -> String {
    let count = text.chars().count();
    let shown: String = text.chars().take(CHARACTERS_MAX).collect();
    let more = if count > CHARACTERS_MAX { format!(" \u{2026} ({count} characters)") } else { String::new() };
    markup(&terminal::escape(&shown)) + &more
}

/// As [`safe`], for places that hold few characters.
pub(super) fn short(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return safe(text);
    }
    let shown: String = text.chars().take(characters.saturating_sub(1)).collect();
    markup(&terminal::escape(&shown)) + "\u{2026}"
}

fn markup(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
        safe
    })
}
