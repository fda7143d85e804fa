//! What ended this node because it contradicts the others, kept on the disk.
//!
//! Only the running node knew: which state it had at which size is not stored. Started again by a supervisor it would find
//! nothing wrong, take the commitment for true and cosign what it had refuted. So the note stands in the data directory, and
//! ends every start over this directory. For a tree it holds the signed checkpoints, too: together they show who signed both.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{durable, failure::Failure};

const FILE: &str = "contradiction";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    what: What,
    reason: String,
    /// Signed notes; files of earlier releases have none.
    #[serde(default)]
    checkpoints: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Map,
    State,
    Tree,
}

/// Notes a failure, if it is a contradiction.
///
/// On return: no crash forgets it. A crash before loses it, as if it had not been found yet.
fn note(root: &Path, failure: &Failure) -> io::Result<()> {
    let (what, reason, checkpoints) = match failure {
        Failure::OtherMap { reason } => (What::Map, reason, &[][..]),
        Failure::OtherState { reason } => (What::State, reason, &[][..]),
        Failure::Diverged { reason, checkpoints } => (What::Tree, reason, &checkpoints[..]),
        Failure::DiskFailed { .. }
        | Failure::StorageDamaged { .. }
        | Failure::PayloadsDamaged { .. }
        | Failure::OtherGenesis { .. }
        | Failure::GenesisRefused { .. } => return Ok(()),
    };
    let note = Note { what, reason: reason.clone(), checkpoints: checkpoints.to_vec() };
    durable::replace(&root.join(FILE), &serde_json::to_vec_pretty(&note)?)
}

/// Notes why the process ends.
pub(crate) async fn noted(root: PathBuf, failure: Failure) {
    let noted = tokio::task::spawn_blocking(move || note(&root, &failure)).await;
    if let Err(error) = noted.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
        tracing::error!(%error, "why this node ends cannot be noted: do not start it again, replace it");
    }
}

/// Tells of what was noted. A note that cannot be read is one all the same.
///
/// # Errors
/// The failure that ended this node before.
pub(crate) fn check(root: &Path) -> Result<(), Failure> {
    let noted = match fs::read(root.join(FILE)) {
        Ok(bytes) => serde_json::from_slice::<Note>(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error.to_string()),
    };
    Err(match noted {
        Ok(Note { what: What::Map, reason, .. }) => Failure::OtherMap { reason },
        Ok(Note { what: What::State, reason, .. }) => Failure::OtherState { reason },
        Ok(Note { what: What::Tree, reason, checkpoints }) => Failure::Diverged { reason, checkpoints },
        Err(error) => Failure::StorageDamaged { reason: format!("the note why this node ended cannot be read: {error}") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contradiction_is_told_at_every_start() {
        let root = tempfile::tempdir().unwrap();
        check(root.path()).unwrap();
        for failure in [
            Failure::OtherMap { reason: "map".to_owned() },
            Failure::OtherState { reason: "state".to_owned() },
            Failure::Diverged { reason: "tree".to_owned(), checkpoints: vec!["shown\n".to_owned(), "own\n".to_owned()] },
        ] {
            note(root.path(), &failure).unwrap();
            assert_eq!(check(root.path()).unwrap_err(), failure);
            assert_eq!(check(root.path()).unwrap_err(), failure, "telling it does not take it away");
        }
    }

    #[test]
    fn a_note_of_an_earlier_release_is_read() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FILE), br#"{"what":"tree","reason":"tree"}"#).unwrap();
        assert_eq!(check(root.path()).unwrap_err(), Failure::Diverged { reason: "tree".to_owned(), checkpoints: Vec::new() });
    }

    #[test]
    fn other_failures_leave_no_note_and_a_damaged_note_is_none_of_the_disk() {
        let root = tempfile::tempdir().unwrap();
        note(root.path(), &Failure::DiskFailed { action: "writing", reason: "full".to_owned() }).unwrap();
        check(root.path()).unwrap();
        fs::write(root.path().join(FILE), b"{").unwrap();
        assert!(matches!(check(root.path()).unwrap_err(), Failure::StorageDamaged { .. }));
    }
}
