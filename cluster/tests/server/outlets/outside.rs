//! Somebody else's code looks at what was sent: PyJWT at security events, `cryptography` at webhooks.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use proofline_cluster::{Plan, PlannedNode};
use serde_json::{Value, json};

use super::receiver::Got;

/// Returns the public keys that a node serves to strangers.
pub(crate) async fn key_set(plan: &Plan, node: &PlannedNode) -> Value {
    let response = proofline_cluster::http::get(plan, node, "/jwks.json").await.unwrap();
    assert_eq!(response.status, 200);
    serde_json::from_slice(&response.body).unwrap()
}

/// Has a security event checked, and returns its header and claims.
pub(crate) fn security_event(keys: &Value, got: &Got, algorithm: &str, audience: &str) -> (Value, Value) {
    let checked = check(&json!({ "kind": "set", "keys": keys, "token": got.body, "algorithm": algorithm, "audience": audience }));
    (checked["header"].clone(), checked["claims"].clone())
}

/// Has a webhook checked, and returns its payload.
pub(crate) fn webhook(keys: &Value, got: &Got, key_id: &str) -> Value {
    check(&json!({ "kind": "webhook", "keys": keys, "key_id": key_id, "headers": got.headers, "body": got.body }))
}

fn check(question: &Value) -> Value {
    let script = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().join("verifier/interop/check_outlet.sh");
    let mut child = Command::new(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), question).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
