//! `proofline replay`: the whole log through the state machine, on this machine.
//!
//! Two things are compared with the verified checkpoint: the tree over the bytes that were read, which shows that they are
//! the log, and what the state machine makes of the same submissions, which shows that the log is what it should be.

use anyhow::{Result, bail};
use bytes::Bytes;
use indicatif::ProgressBar;
use proofline_client::{EntryReader, Link, Reading, TileArchive};
use proofline_ledger::{Divergence, Replay};
use proofline_proto::v1;
use proofline_verifier::{
    EntryIndex, Frontier, LogHash, Policy, TreeHash as _, TreeHead, TreeSize, VerifiedCheckpoint, parse_path, verify_consistency,
};
use serde_json::json;

use super::verify;
use crate::{
    arguments::{Global, ReplayArguments},
    connection::Connection,
    exit::Exit,
    output::{Answer, facts},
    progress,
};

pub(super) async fn run(arguments: &ReplayArguments, global: &Global, connect: impl Fn() -> Result<Connection>) -> Result<Answer> {
    match &arguments.archive {
        Some(directory) => of_archive(&TileArchive::at(directory), &verify::policy(arguments.policy.as_deref(), global)?),
        None => of_ledger(arguments, &connect()?).await,
    }
}

fn of_archive(archive: &TileArchive, policy: &Policy) -> Result<Answer> {
    let checkpoint = policy.verify_checkpoint(&archive.checkpoint()?)?;
    let mut replaying = Replaying::new(checkpoint.size)?;
    archive.entries(checkpoint.size).try_for_each(|entries| entries.map(|entries| replaying.take(entries)))?;
    let run = replaying.finish();
    let read = TreeHead { size: run.tree.size(), root: run.tree.root() };
    let tree = if read == checkpoint.head() { Tree::OfTheCheckpoint } else { Tree::Another };
    Ok(answer(run, &checkpoint, tree))
}

async fn of_ledger(arguments: &ReplayArguments, connection: &Connection) -> Result<Answer> {
    let checkpoint = connection.checked_checkpoint().await?.checkpoint;
    let to = TreeSize(arguments.to.unwrap_or(checkpoint.size.0));
    if to > checkpoint.size {
        bail!("the checkpoint covers {} entries, not {to}", checkpoint.size);
    }
    let run = read(to, connection).await?;
    let tree = compare_root(&run, &checkpoint, connection).await?;
    Ok(answer(run, &checkpoint, tree))
}

/// What was read, and what the state machine said to it.
struct Run {
    tree: Frontier<LogHash>,
    divergence: Option<Divergence>,
    state: Option<Rederived>,
}

struct Rederived {
    log_root: String,
    state_digest: String,
}

/// Whether the bytes that were read are the log of the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tree {
    OfTheCheckpoint,
    Another,
}

async fn read(to: TreeSize, connection: &Connection) -> Result<Run> {
    let mut entries = EntryReader::new(connection.client.clone(), EntryIndex(0), Reading::Until(EntryIndex(to.0)));
    let mut replaying = Replaying::new(to)?;
    while let Some(run) = entries.next().await? {
        replaying.take(run.entries);
    }
    Ok(replaying.finish())
}

/// A replay under way.
struct Replaying {
    bar: ProgressBar,
    tree: Frontier<LogHash>,
    replay: Option<Replay>,
    divergence: Option<Divergence>,
}

impl Replaying {
    fn new(size: TreeSize) -> Result<Self> {
        Ok(Self { bar: progress::bar(size.0, "entries"), tree: Frontier::default(), replay: Some(Replay::new()?), divergence: None })
    }

    fn take(&mut self, entries: Vec<Bytes>) {
        self.bar.inc(entries.len() as u64);
        for entry in entries {
            self.tree.push(LogHash::leaf(&entry));
            self.divergence = push(&mut self.replay, entry).or(self.divergence.take());
        }
    }

    fn finish(self) -> Run {
        self.bar.finish_and_clear();
        let (state, unfinished) = finish(self.replay);
        Run { tree: self.tree, divergence: self.divergence.or(unfinished), state }
    }
}

/// Behind the first divergence there is no state to go on from; the tree goes on without it.
fn push(replay: &mut Option<Replay>, entry: Bytes) -> Option<Divergence> {
    let divergence = replay.as_mut()?.push(entry).err()?;
    *replay = None;
    Some(divergence)
}

fn finish(replay: Option<Replay>) -> (Option<Rederived>, Option<Divergence>) {
    match replay.map(Replay::finish) {
        None => (None, None),
        Some(Err(divergence)) => (None, Some(divergence)),
        Some(Ok((ledger, _))) => {
            let state = Rederived { log_root: hex::encode(ledger.log_root().0), state_digest: hex::encode(ledger.state_digest().0) };
            (Some(state), None)
        }
    }
}

async fn compare_root(run: &Run, checkpoint: &VerifiedCheckpoint, connection: &Connection) -> Result<Tree> {
    let read = TreeHead { size: run.tree.size(), root: run.tree.root() };
    let path = if read.size == checkpoint.size {
        Vec::new()
    } else {
        let request = v1::GetConsistencyProofRequest { first_size: read.size.0, second_size: checkpoint.size.0 };
        let call = |link: Link| async move { link.audit().get_consistency_proof(request).await };
        parse_path::<LogHash>(&connection.client.call(call).await?.path)?
    };
    let is_same = verify_consistency(read, checkpoint.head(), &path).is_ok();
    Ok(if is_same { Tree::OfTheCheckpoint } else { Tree::Another })
}

fn answer(run: Run, checkpoint: &VerifiedCheckpoint, tree: Tree) -> Answer {
    let (verdict, exit) = match (&run.divergence, tree) {
        (None, Tree::OfTheCheckpoint) => ("the log is what the state machine makes of its submissions", Exit::Done),
        // Only --to ends inside a batch: nothing is wrong with what was replayed.
        (Some(Divergence::Incomplete(_)), Tree::OfTheCheckpoint) => ("replayed up to a batch that goes on behind --to", Exit::Done),
        (Some(_), _) => ("PROVEN WRONG: the log is not what the state machine makes of its submissions", Exit::ProvenWrong),
        (None, Tree::Another) => ("PROVEN WRONG: the entries that were read are not those of the checkpoint", Exit::ProvenWrong),
    };
    let divergence = run.divergence.as_ref().filter(|_| exit == Exit::ProvenWrong).map(ToString::to_string);
    let (log_root, state_digest) = run.state.map(|it| (it.log_root, it.state_digest)).unwrap_or_default();
    let text = facts([
        ("verdict", verdict.to_owned()),
        ("entries", run.tree.size().to_string()),
        ("root of what was read", run.tree.root().to_string()),
        ("root that was derived", log_root.clone()),
        ("checkpoint", format!("{} {}", checkpoint.size, checkpoint.root)),
        ("state digest", state_digest.clone()),
        ("first divergence", divergence.clone().unwrap_or_else(|| "none".to_owned())),
    ]);
    let json = json!({
        "exit_code": exit.number(),
        "entries": run.tree.size().to_string(),
        "read_root": run.tree.root().to_string(),
        "derived_root": log_root,
        "state_digest": state_digest,
        "checkpoint": { "size": checkpoint.size.to_string(), "root": checkpoint.root.to_string() },
        "divergence": divergence,
    });
    Answer::new("proofline.replay/v1", json, text).ending(exit)
}
