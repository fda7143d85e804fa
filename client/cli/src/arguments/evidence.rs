//! Arguments of commands that read and prove.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Signing;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions of a tenant
    #[command(after_help = "Example:\n  proofline session list --tenant acme")]
    List {
        /// Whose sessions
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// At most this many
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
    },
    /// Show every entry of a session
    #[command(after_help = "Example:\n  proofline session show run-42 --tenant acme")]
    Show(SessionSelector),
    /// Seal a session: nothing comes behind it, and its evidence is complete
    #[command(after_help = "Example:\n  proofline session seal run-42 --tenant acme --reason closed --signer rita=rita.key.pem")]
    Seal {
        #[command(flatten)]
        session: SessionSelector,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SessionSelector {
    /// Session id
    pub(crate) session: String,
    /// Whose session
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  proofline entry 41")]
pub(crate) struct EntryArguments {
    /// Entry index
    pub(crate) index: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  proofline prove --index 41 --out 41.tlog-proof
  proofline prove --session run-42 --tenant acme --position 3 --out step-3.session-proof
  proofline prove --session run-42 --tenant acme --out run-42.session-evidence")]
pub(crate) struct ProveArguments {
    /// One entry: a .tlog-proof
    #[arg(long, value_name = "N", required_unless_present = "session", conflicts_with = "session")]
    pub(crate) index: Option<u64>,
    /// A session: a .session-evidence with all of it, or with --position a .session-proof of one entry
    #[arg(long, value_name = "ID", requires = "tenant")]
    pub(crate) session: Option<String>,
    /// Whose session
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: Option<String>,
    /// Position in the session, from 0
    #[arg(long, value_name = "P", requires = "session")]
    pub(crate) position: Option<u64>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  proofline verify run-42.session-evidence --policy ledger.policy")]
pub(crate) struct VerifyArguments {
    /// Files of evidence, recognised by their content
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Policy file [default: the profile's]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// A checkpoint that you kept from before
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) consistent_with: Option<PathBuf>,
    /// The proof between that checkpoint and the one in the files
    #[arg(long, value_name = "PROOF", requires = "consistent_with")]
    pub(crate) consistency_proof: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  proofline tail\n  proofline tail --from 0 --session run-42 --output json")]
pub(crate) struct TailArguments {
    /// Begin at this entry [default: the last ten]
    #[arg(long, value_name = "N")]
    pub(crate) from: Option<u64>,
    /// Only entries of this session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// End at what is published instead of waiting for more
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  proofline replay --to 10000")]
pub(crate) struct ReplayArguments {
    /// Replay the entries below this index [default: all that the checkpoint covers]
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,
}
