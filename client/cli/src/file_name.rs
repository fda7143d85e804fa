//! File names for identifiers, which may hold what a file name may not.

/// Longest name that stands for itself; file systems take 255 bytes.
const READABLE_BYTES_MAX: usize = 120;

/// Returns a name that is one file in its directory, and of no other identifier.
pub(crate) fn file_name(identifier: &str) -> String {
    let mut name = String::with_capacity(identifier.len());
    for byte in identifier.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    // A percent sign is followed by hex digits above, so a name of this form is no other identifier's.
    if name.len() > READABLE_BYTES_MAX { format!("%{}", blake3::hash(identifier.as_bytes()).to_hex()) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_never_leaves_its_directory() {
        assert_eq!(file_name("gateway-1"), "gateway-1");
        assert_eq!(file_name("../a/b"), "%2e%2e%2fa%2fb");
        assert_eq!(file_name(&"x".repeat(250)).len(), 65);
    }
}
