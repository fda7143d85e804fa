//! What receivers look up: the metadata of the transmitter, and the public keys.

use serde::Serialize;

use super::{
    OutletSettings,
    keys::{Jwk, KeyDirectory},
};

/// Metadata of a Shared Signals transmitter. It names what there is: streams are registered by operators, so there is no
/// endpoint to make or change one.
#[derive(Debug, Serialize)]
struct Transmitter {
    spec_version: &'static str,
    issuer: String,
    jwks_uri: String,
    delivery_methods_supported: [&'static str; 1],
    default_subjects: &'static str,
    authorization_schemes: [AuthorizationScheme; 1],
}

#[derive(Debug, Serialize)]
struct AuthorizationScheme {
    spec_urn: &'static str,
}

/// Returns the metadata as JSON, when this node is configured as an issuer.
#[must_use]
pub fn transmitter(settings: &OutletSettings) -> Option<String> {
    let issuer = settings.issuer.clone()?;
    let transmitter = Transmitter {
        spec_version: "1_0",
        jwks_uri: format!("{}/jwks.json", issuer.trim_end_matches('/')),
        issuer,
        delivery_methods_supported: ["urn:ietf:rfc:8935"],
        default_subjects: "ALL",
        authorization_schemes: [AuthorizationScheme { spec_urn: "urn:ietf:rfc:6749" }],
    };
    serde_json::to_string(&transmitter).ok()
}

/// A JWK set, RFC 7517.
#[derive(Debug, Serialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// Returns the public halves of this node's outlet keys as JSON; nothing without a directory of keys. Reads files.
#[must_use]
pub fn key_set(settings: &OutletSettings) -> Option<String> {
    let keys = KeyDirectory(settings.keys.as_deref()?).public();
    serde_json::to_string(&KeySet { keys }).ok()
}
