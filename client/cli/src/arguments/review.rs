//! Arguments of reviews: what verified entries say about one action, a session, an agent, a collector, a stretch of time.

use clap::{Args, Subcommand};

use super::WindowEnd;

/// Why somebody asks, and over what stretch.
#[derive(Debug, Args)]
pub(crate) struct WindowArguments {
    /// Begin at this entry, or with what was committed at this time (RFC 3339) or later
    #[arg(long, value_name = "INDEX|TIME")]
    pub(crate) from: Option<WindowEnd>,
    /// End before this entry, or with what was committed before this time [default: everything before the question; it waits until that can be proven]
    #[arg(long, value_name = "INDEX|TIME")]
    pub(crate) to: Option<WindowEnd>,
    /// Why you ask; stands in the log with who asked
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) purpose: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReviewCommand {
    /// Explain one action: intent, policy decision, credential, session, action, outcome; names the links that are absent
    #[command(after_help = "Example:\n  proofline review action 4711")]
    Action {
        /// Entry of the action: an intent, its outcome, an access to data, a model call
        index: u64,
        /// End before this entry, or with what was committed before this time [default: everything before the question; it waits until that can be proven]
        #[arg(long, value_name = "INDEX|TIME")]
        to: Option<WindowEnd>,
        /// Why you ask; stands in the log with who asked
        #[arg(long, value_name = "TEXT", default_value = "")]
        purpose: String,
    },
    /// Add up the authority that a session gathered: credentials, scopes, audiences, reach
    #[command(after_help = "Example:\n  proofline review authority run-42 --tenant acme")]
    Authority {
        /// Session id
        session: String,
        /// Whose session
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        #[command(flatten)]
        window: WindowArguments,
    },
    /// Set what an agent was granted against what it used: granted and not used, used and not granted, last use
    #[command(after_help = "\
Granted is what the purposes allow under which the agent acted, as they are declared now; used is what it called and the ledger allowed.

Example:
  proofline review access bot-7 --tenant acme --from 2026-08-01T00:00:00Z")]
    Access {
        /// Agent id
        agent: String,
        /// Whose agent
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        #[command(flatten)]
        window: WindowArguments,
    },
    /// Count how much of what was recorded can be attributed
    #[command(after_help = "Example:\n  proofline review coverage --from 2026-11-01T00:00:00Z")]
    Coverage {
        #[command(flatten)]
        window: WindowArguments,
    },
    /// Show where a collector's own numbering is silent: epochs without an end, drops, late heartbeats
    #[command(after_help = "Example:\n  proofline review collector gateway --silence 60")]
    Collector {
        /// Collector id
        collector: String,
        /// Seconds without an entry that count as a silence
        #[arg(long, value_name = "SECONDS", default_value_t = proofline_client::SILENCE_MAX_NS / 1_000_000_000)]
        silence: u64,
        #[command(flatten)]
        window: WindowArguments,
    },
}
