//! What most commands begin with: the profile, the connection, the policy.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use proofline_client::{Client, Comparison, HeldCheckpoints, HeldError, Profile, RetryPolicy, Slow};
use proofline_verifier::{Policy, VerifiedCheckpoint, escape};

use crate::{arguments::Global, exit::WrongArguments};

/// How long a node may know less than is held before it is said.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(3);
/// How long is asked for what an answer can do without.
const SHORT: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One ledger, as a profile describes it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) profile: Profile,
    pub(crate) client: Client,
    held: HeldCheckpoints,
}

/// A checkpoint that was verified and compared.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) note: Vec<u8>,
    pub(crate) checkpoint: VerifiedCheckpoint,
    pub(crate) comparison: Comparison,
}

impl Connection {
    /// Reads the profile. Connections are made on first use.
    pub(crate) fn new(global: &Global) -> Result<Self> {
        let path = global.profile.as_ref().ok_or(WrongArguments("no profile: give --profile FILE, or set PROOFLINE_PROFILE"))?;
        let profile = Profile::load(path)?;
        let profile = match &global.node {
            Some(node) => profile.only(node)?,
            None => profile,
        };
        let retry = RetryPolicy { within: global.timeout, attempt: RetryPolicy::default().attempt.min(global.timeout) };
        let client = Client::connect(&profile, retry)?.telling_slow(|slow| anstream::eprintln!("{}", still_trying(&slow)));
        let held = global.held.clone().unwrap_or_else(|| path.with_extension("held.json"));
        Ok(Self { profile, client, held: HeldCheckpoints::at(&held) })
    }

    /// The same ledger for what is told beside an answer: it is not waited for long.
    pub(crate) fn in_short(&self) -> Self {
        let within = SHORT.min(self.client.retry().within);
        let client = self.client.with_retry(RetryPolicy { within, attempt: self.client.retry().attempt.min(within) });
        Self { client, ..self.clone() }
    }

    /// Reads the trust policy.
    pub(crate) fn policy(&self) -> Result<Policy> {
        Ok(self.profile.load_policy()?)
    }

    /// Returns a path beside the profile.
    pub(crate) fn beside_profile(&self, name: &str) -> PathBuf {
        self.profile.path.parent().unwrap_or(Path::new("")).join(name)
    }

    /// Compares the checkpoint of an answer with the one that is held. A node that was just behind catches up meanwhile.
    pub(crate) async fn compare(&self, note: &[u8]) -> Result<()> {
        let (policy, until) = (self.policy()?, Instant::now() + CAUGHT_UP_WITHIN);
        loop {
            match self.held.compare(&self.client, &policy, note).await {
                Err(HeldError::WentBack { .. }) if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                compared => return Ok(compared.map(drop)?),
            }
        }
    }

    /// The same for an answer that should say all there is: an older checkpoint than the one that is held is an error.
    pub(crate) async fn compare_newest(&self, note: &[u8]) -> Result<()> {
        self.held.compare_newest(&self.client, &self.policy()?, note).await?;
        Ok(())
    }

    /// Fetches the newest checkpoint, verifies it and compares it with the one that is held.
    pub(crate) async fn checked_checkpoint(&self) -> Result<Checked> {
        let (note, checkpoint, comparison) = self.held.newest_of(&self.client, &self.policy()?).await?;
        Ok(Checked { note, checkpoint, comparison })
    }
}

/// For whoever waits in front of a terminal, or reads its output later.
fn still_trying(slow: &Slow) -> String {
    let Slow { waited, within, last } = slow;
    let left = within.saturating_sub(*waited).as_secs();
    let met = last.as_ref().map_or_else(String::new, |(endpoint, fault)| format!("; last, {endpoint}: {fault}"));
    escape(&format!("no answer for {} s, trying for {left} s more{met} (`proofline status` says who answers)", waited.as_secs()))
        .to_string()
}
