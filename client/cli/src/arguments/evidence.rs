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
  proofline prove --receipt 41 --out 41.cose-receipt
  proofline prove --session run-42 --tenant acme --position 3 --out step-3.session-proof
  proofline prove --session run-42 --tenant acme --out run-42.session-evidence

A receipt is the word of one log key about a root. Size and cosignatures come from the checkpoint:
  proofline verify 41.cose-receipt --entry 41.entry --consistent-with 41.checkpoint --policy ledger.policy")]
pub(crate) struct ProveArguments {
    /// One entry: a .tlog-proof
    #[arg(long, value_name = "N", required_unless_present_any = ["receipt", "session"], conflicts_with_all = ["receipt", "session"])]
    pub(crate) index: Option<u64>,
    /// One entry: a COSE receipt (RFC 9942), with the entry (.entry) and the checkpoint (.checkpoint) written beside it
    #[arg(long, value_name = "N", conflicts_with = "session")]
    pub(crate) receipt: Option<u64>,
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
    /// Replace files that are there
    #[arg(long)]
    pub(crate) force: bool,
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
    /// Exact bytes of the entry that the files are about: COSE receipts do not hold it
    #[arg(long, value_name = "ENTRY")]
    pub(crate) entry: Option<PathBuf>,
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
#[command(after_help = "\
Example:
  proofline archive /srv/ledger        # then serve the directory with any web server

The files are `checkpoint`, `tile/<L>/<N>[.p/<W>]` and `tile/entries/<N>[.p/<W>]` (C2SP tlog-tiles). Every tile is made of
entries that lead to the verified checkpoint, which is written last. An archive is enough for `proofline replay --archive`.
Not in it: the signatures of collectors over their batches, facts of decisions, payloads, and the policy file.
Entries say what agents did: serve `tile/entries` to auditors only.")]
pub(crate) struct ArchiveArguments {
    /// Directory of the archive; made when it is not there
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  proofline archive-check /srv/ledger --policy ledger.policy

Exit code 3 when a file is not what the checkpoint says, 4 when one is missing or superfluous.")]
pub(crate) struct ArchiveCheckArguments {
    /// Directory of the archive
    pub(crate) directory: PathBuf,
    /// Policy file [default: the profile's]
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  proofline replay --to 10000\n  proofline replay --archive /srv/ledger --policy ledger.policy")]
pub(crate) struct ReplayArguments {
    /// Replay the entries below this index [default: all that the checkpoint covers]
    #[arg(long, value_name = "N", conflicts_with = "archive")]
    pub(crate) to: Option<u64>,
    /// Read an archive instead of a ledger: no connection is needed
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) archive: Option<PathBuf>,
    /// Policy file, for the archive's checkpoint [default: the profile's]
    #[arg(long, value_name = "FILE", requires = "archive")]
    pub(crate) policy: Option<PathBuf>,
}
