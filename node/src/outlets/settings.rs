use std::{path::PathBuf, time::Duration};

use proofline_ledger::{Endpoint, Scheme};
use proofline_proto::v1::{Outlet, outlet::Kind};

use super::keys::KeyDirectory;
use crate::post::Post;

/// Whether an endpoint on this machine may be reached without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// No: the node is secured, and so is what it sends.
    Refused,
    /// Yes, on loopback: the node was started for development.
    Loopback,
}

/// What a node is told of outlets.
#[derive(Clone, Debug)]
pub struct OutletSettings {
    /// Directory of keys and tokens; without one nothing is sent.
    pub keys: Option<PathBuf>,
    /// The issuer whose metadata this node serves.
    pub issuer: Option<String>,
    /// Roots that receivers' certificates are checked with, instead of the system's.
    pub roots: Option<PathBuf>,
    /// Pause before the second attempt. The others grow with it.
    pub retry_first: Duration,
    /// How long a stream is tried.
    pub give_up_after: Duration,
    /// Longest time of one attempt, from looking up the name to the end of the answer.
    pub timeout: Duration,
    /// Whether plaintext is allowed.
    pub plaintext: Plaintext,
}

impl OutletSettings {
    pub(super) fn post(&self) -> Result<Post, String> {
        Post::new(self.roots.as_deref(), self.timeout)
    }

    pub(super) fn keys(&self) -> Result<KeyDirectory<'_>, String> {
        self.keys.as_deref().map(KeyDirectory).ok_or_else(|| "no directory of outlet keys is configured".to_owned())
    }

    /// Tells by their ids which outlets lack something on this node, and what. Reads the files that sending would read.
    #[must_use]
    pub fn problems(&self, outlets: &[Outlet]) -> Vec<(String, String)> {
        let roots = if outlets.is_empty() { None } else { self.post().err() };
        let problem = |outlet: &Outlet| self.check(outlet).err().or_else(|| roots.clone()).or_else(|| self.notice(outlet));
        outlets.iter().filter_map(|outlet| Some((outlet.outlet_id.clone(), problem(outlet)?))).collect()
    }

    pub(super) fn check(&self, outlet: &Outlet) -> Result<(), String> {
        let keys = self.keys()?;
        let endpoint = match &outlet.kind {
            Some(Kind::SharedSignals(stream)) => {
                keys.signing(&stream.key_id, stream.algorithm())?;
                keys.token(outlet)?;
                &stream.endpoint
            }
            Some(Kind::Webhook(webhook)) => {
                keys.ed25519(&webhook.key_id)?;
                &webhook.endpoint
            }
            None => return Err("the outlet is of no kind".to_owned()),
        };
        match (Endpoint::parse(endpoint).map(|of| of.scheme), self.plaintext) {
            (Some(Scheme::Https), _) | (Some(Scheme::HttpLoopback), Plaintext::Loopback) => Ok(()),
            (Some(Scheme::HttpLoopback), Plaintext::Refused) => Err("the endpoint has no TLS, and this node does".to_owned()),
            (None, _) => Err("the endpoint cannot be read".to_owned()),
        }
    }

    /// Tells of a stream whose tokens name another issuer than this node's metadata: receivers would not find its keys.
    fn notice(&self, outlet: &Outlet) -> Option<String> {
        match (&outlet.kind, &self.issuer) {
            (Some(Kind::SharedSignals(stream)), Some(issuer)) if stream.issuer == *issuer => None,
            (Some(Kind::SharedSignals(stream)), Some(issuer)) => {
                Some(format!("this node is issuer {issuer}, the stream's is {}", stream.issuer))
            }
            (Some(Kind::SharedSignals(_)), None) => Some("this node is configured as no issuer".to_owned()),
            (Some(Kind::Webhook(_)) | None, _) => None,
        }
    }
}
