//! What was typed.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const AFTER_HELP: &str = "\
Examples:
  proofline-verify run-42.session-evidence --policy ledger.policy
  proofline-verify run-42.evidence.zip --policy ledger.policy --report run-42.html
  proofline-verify 41.cose-receipt --entry 41.entry --consistent-with 41.checkpoint --policy ledger.policy

Exit codes:
  0  every file is verified
  1  the arguments are wrong, or the policy cannot be read
  3  a file is proven wrong
  4  nothing is proven wrong, but a file could not be decided:
     a key, a registration or a format version is missing, or the file cannot be read";

/// Checks evidence of a Proofline ledger offline: only these files are read, nothing else is trusted.
///
/// Prints each check by name, and what stays unproven even when all of them pass.
#[derive(Debug, Parser)]
#[command(name = "proofline-verify", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Files to check: .tlog-proof, .cose-receipt, .session-proof, .session-evidence, .evidence.zip (recognised by their content)
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Policy file (C2SP tlog-policy): the log key, and whose cosignatures make a checkpoint trusted
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: PathBuf,

    /// Exact bytes of the entry that the files are about: COSE receipts do not hold it
    #[arg(long, value_name = "ENTRY", conflicts_with = "report")]
    pub(crate) entry: Option<PathBuf>,

    /// For people, or versioned JSON for scripts
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    pub(crate) output: OutputFormat,

    /// Write a report for people as one HTML page, about the files whose integrity is verified
    #[arg(long, value_name = "HTML")]
    pub(crate) report: Option<PathBuf>,

    /// A checkpoint that you kept from before: the files must be of the same log, only grown
    #[arg(long, value_name = "OLDER_CHECKPOINT")]
    pub(crate) consistent_with: Option<PathBuf>,

    /// The consistency proof between that checkpoint and the one in the files; not needed when they have one size
    #[arg(long, value_name = "PROOF", requires = "consistent_with")]
    pub(crate) consistency_proof: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Human,
    Json,
}
