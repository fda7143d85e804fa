//! Text of strangers, made safe to print.

/// Escapes in a JSON document what a terminal would act on instead of showing it; it stays the same document, because such
/// characters stand in its strings alone.
#[must_use]
pub fn escape_json(document: &str) -> String {
    let mut safe = String::with_capacity(document.len());
    for character in document.chars() {
        if character.is_ascii_graphic() || character == ' ' || character == '\n' || character.escape_debug().len() == 1 {
            safe.push(character);
        } else {
            let mut units = [0; 2];
            safe.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    safe
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_escape_what_a_terminal_would_act_on() {
        assert_eq!(escape_json("{\"a\": \"x\u{202e}é\u{1F600}\"}"), "{\"a\": \"x\\u202eé\u{1F600}\"}");
    }
}
