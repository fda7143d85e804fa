//! Text of strangers, made safe to print.

/// Escapes what could move the cursor, hide text or reverse its direction; everything else stays as it is.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' => safe.push(character),
            // Escapes every control, format and unprintable character, and the backslash that would imitate an escape.
            _ => safe.extend(character.escape_debug()),
        }
    }
    safe
}
