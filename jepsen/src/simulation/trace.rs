//! Everything that happens in a run, one line each, and the hash over all lines.

/// The lines so far.
#[derive(Debug)]
pub(super) struct Trace {
    hasher: blake3::Hasher,
    kept: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(keeps: bool) -> Self {
        Self { hasher: blake3::Hasher::new(), kept: keeps.then(Vec::new) }
    }

    pub(super) fn line(&mut self, at_ns: u64, what: &str) {
        let line = format!("{:>12}.{:03} {what}", at_ns / 1_000, at_ns % 1_000);
        self.hasher.update(line.as_bytes());
        self.hasher.update(b"\n");
        if let Some(kept) = &mut self.kept {
            kept.push(line);
        }
    }

    pub(super) fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        self.kept.take().unwrap_or_default()
    }
}
