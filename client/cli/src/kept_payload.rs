//! Content and salt of a commitment, as a collector keeps them: a line of JSON each.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// Schema of a line.
pub(crate) const KEPT_SCHEMA: &str = "proofline.payload/v1";

/// One commitment's other half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptPayload {
    pub(crate) digest: Vec<u8>,
    pub(crate) salt: Vec<u8>,
    pub(crate) content: Vec<u8>,
}

impl KeptPayload {
    /// Adds a line to a file. On return: it is durable.
    pub(crate) fn append(&self, path: &Path, name: &str) -> Result<()> {
        let content = match std::str::from_utf8(&self.content) {
            Ok(text) => ("content", text.to_owned()),
            Err(_) => ("content_hex", hex::encode(&self.content)),
        };
        let line = json!({
            "schema": KEPT_SCHEMA, "name": name, "digest": hex::encode(&self.digest), "salt": hex::encode(&self.salt), (content.0): content.1,
        });
        let write = || -> std::io::Result<()> {
            let mut file = File::options().create(true).append(true).mode(0o600).open(path)?;
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_all()
        };
        write().with_context(|| path.display().to_string())
    }

    /// Reads every line of a file.
    pub(crate) fn read_all(path: &Path) -> Result<Vec<Self>> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(place, line)| Self::parse(line).with_context(|| format!("{}, line {}", path.display(), place + 1))).collect()
    }

    fn parse(line: &str) -> Result<Self> {
        let line: Value = serde_json::from_str(line)?;
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        if text("schema") != Some(KEPT_SCHEMA) {
            bail!("no line of {KEPT_SCHEMA}");
        }
        let bytes = |name: &str| Ok::<_, anyhow::Error>(hex::decode(text(name).with_context(|| format!("{name} is missing"))?)?);
        let content = match text("content") {
            Some(content) => content.as_bytes().to_vec(),
            None => bytes("content_hex")?,
        };
        Ok(Self { digest: bytes("digest")?, salt: bytes("salt")?, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_text_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept.jsonl");
        let kept = [b"text \"quoted\"\n".to_vec(), vec![0xff, 0, 0x80]].map(|content| KeptPayload {
            digest: vec![1; 32],
            salt: vec![2; 32],
            content,
        });
        kept.iter().for_each(|one| one.append(&path, "prompt").unwrap());
        assert_eq!(KeptPayload::read_all(&path).unwrap(), kept);
        fs::write(&path, "{\"schema\":\"other\"}\n").unwrap();
        assert!(KeptPayload::read_all(&path).unwrap_err().to_string().contains("line 1"));
    }
}
