//! What was typed.

mod cluster;
mod containment;
mod deciding;
mod evidence;
mod incident;
mod ingest;
mod lineage;
mod outlet;
mod payload;
mod registry;
mod review;
mod tool;

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use cluster::{CommandFileCommand, GenesisCommand, MembershipCommand, NodeCommand};
pub(crate) use containment::{ContainCommand, ContainmentCommand};
pub(crate) use deciding::{
    ActivateArguments, AnswerArguments, ApprovalCommand, ClassificationName, DecisionCommand, PurposeArguments, PurposeCommand,
    RulesCommand, ServerArguments, ServerCommand, SimulateArguments, UnresolvedArguments,
};
pub(crate) use evidence::{
    ArchiveArguments, ArchiveCheckArguments, EntryArguments, ProveArguments, ReplayArguments, SessionCommand, SessionSelector,
    TailArguments, VerifyArguments,
};
pub(crate) use incident::{AdvanceArguments, HoldArguments, HoldCommand, IncidentCommand};
pub(crate) use ingest::{AppendArguments, ImportCommand, LaneArguments, OtlpArguments, Subjects};
pub(crate) use lineage::{
    BlastRadiusArguments, DirectionName, EvidenceArguments, EvidenceCommand, KeyArguments, LineFormat, LineageArguments, ReachArguments,
    WindowEnd,
};
pub(crate) use outlet::{KeyKind, OutletCommand};
pub(crate) use payload::{CommitArguments, EraseArguments, GetArguments, PayloadCommand, PutArguments, RetentionCommand, SubjectArguments};
pub(crate) use registry::{
    AgentCommand, AgentRegistration, AgentStateName, CollectorCommand, CollectorRegistration, KeysCommand, OperatorCommand, PublicKey,
    RoleArguments, RoleCommand, SignerFile, Signing, VantageName,
};
pub(crate) use review::{ReviewCommand, WindowArguments};
pub(crate) use tool::{PinArguments, ToolCommand};

const AFTER_HELP: &str = "\
Examples:
  export PROOFLINE_PROFILE=~/.config/proofline/prod.toml
  proofline status
  proofline import otlp traces.jsonl.gz --collector gateway --key gateway.key.pem --tenant acme --issuer https://idp.acme.example
  proofline prove --session run-42 --tenant acme --out run-42.session-evidence
  proofline verify run-42.session-evidence --policy ledger.policy

Exit codes:
  0  done               3  proven wrong          6  not allowed
  1  failed             4  could not be decided  7  degraded (status)
  2  wrong arguments    5  unreachable, or no quorum

Data goes to standard output, everything else to standard error. NO_COLOR is honoured.";

/// Records what AI agents did, and proves it: the command line of a Proofline ledger.
#[derive(Debug, Parser)]
#[command(name = "proofline", version, after_help = AFTER_HELP, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Profile (TOML): origin, endpoints, policy, and certificate files
    #[arg(long, global = true, env = "PROOFLINE_PROFILE", value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,

    /// For people, or versioned JSON for scripts (64-bit numbers are strings)
    #[arg(long, short, global = true, value_enum, env = "PROOFLINE_OUTPUT", default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,

    /// File that remembers the newest verified checkpoint [default: beside the profile]
    #[arg(long, global = true, env = "PROOFLINE_HELD", value_name = "FILE")]
    pub(crate) held: Option<PathBuf>,

    /// Ask this node of the profile and no other: host:port or host of its endpoint
    #[arg(long, global = true, value_name = "NODE")]
    pub(crate) node: Option<String>,

    /// How long to keep trying when nodes do not answer: seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make and look at key files
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Register, revoke and list collectors
    #[command(subcommand)]
    Collector(CollectorCommand),
    /// Register, revoke and list agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Register and revoke operators; each takes two signers
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Grant and revoke roles of client certificates
    #[command(subcommand)]
    Role(RoleCommand),
    /// Stop a session, an agent, a credential, a server, or everything
    #[command(subcommand)]
    Contain(ContainCommand),
    /// List, follow and release containments
    #[command(subcommand)]
    Containment(ContainmentCommand),
    /// Tell identity providers and gateways of containment, and see what became of it
    #[command(subcommand)]
    Outlet(OutletCommand),
    /// Check, test, simulate, activate and show rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Export one decision, and decide again from the file
    #[command(subcommand)]
    Decision(DecisionCommand),
    /// List and answer what waits for somebody's yes, and take a yes back
    #[command(subcommand)]
    Approval(ApprovalCommand),
    /// List intents that were allowed and have no outcome
    #[command(after_help = "Example:\n  proofline unresolved --tenant acme --older-than 600")]
    Unresolved(UnresolvedArguments),
    /// Open, advance and list incidents
    #[command(subcommand)]
    Incident(IncidentCommand),
    /// Keep evidence from being erased
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Commit to payloads, hand them over, read them, and have a subject's erased
    #[command(subcommand)]
    Payload(PayloadCommand),
    /// Set and show how long payloads are kept
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Declare what agents are meant to do
    #[command(subcommand)]
    Purpose(PurposeCommand),
    /// Register and list MCP servers
    #[command(subcommand)]
    Server(ServerCommand),
    /// List tools, and say which of their definitions are good
    #[command(subcommand)]
    Tool(ToolCommand),
    /// Register and retire the keys of nodes (two signers), and write the policy that follows
    #[command(subcommand)]
    Node(NodeCommand),
    /// Add nodes to the cluster and remove them
    #[command(subcommand)]
    Membership(MembershipCommand),
    /// Show, sign and submit commands that wait in files for a second operator
    #[command(subcommand, name = "command")]
    Signed(CommandFileCommand),
    /// Make and look at the first entry of a new ledger
    #[command(subcommand)]
    Genesis(GenesisCommand),
    /// Append events from a file of JSON lines
    Append(AppendArguments),
    /// Import what other systems recorded
    #[command(subcommand)]
    Import(ImportCommand),
    /// List, show and seal sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// Show one entry
    Entry(EntryArguments),
    /// Follow a session, an agent, a resource or another key: on whose authority, and what it touched
    Lineage(LineageArguments),
    /// Count what a session reached: systems, resources, sessions, agents
    BlastRadius(BlastRadiusArguments),
    /// Explain an action, add up authority, review access, measure coverage and completeness
    #[command(subcommand)]
    Review(ReviewCommand),
    /// Export the answer to a question as a file that verifies offline
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Write a file of evidence that verifies offline
    Prove(ProveArguments),
    /// Check files of evidence offline, as proofline-verify does
    Verify(VerifyArguments),
    /// Fetch the newest checkpoint, verify it, and compare it with the one that is held
    #[command(
        after_help = "Examples:\n  proofline checkpoint\n  proofline checkpoint --node node-2.example\n  proofline checkpoint --out may.checkpoint"
    )]
    Checkpoint {
        /// Write the signed checkpoint to this file, for --consistent-with of later files; never overwritten
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the nodes; exit code 7 when one is missing
    #[command(after_help = "Example:\n  proofline status --output json")]
    Status,
    /// Follow the log as it grows
    Tail(TailArguments),
    /// Write the log into a directory as C2SP tlog-tiles, verified; a later run goes on where it ended
    Archive(ArchiveArguments),
    /// Check every file of an archive against its checkpoint, offline
    ArchiveCheck(ArchiveCheckArguments),
    /// Run the whole log through the state machine and compare with the verified checkpoint
    Replay(ReplayArguments),
    /// Write a completion script for a shell
    #[command(after_help = "Example:\n  proofline completions bash > /etc/bash_completion.d/proofline")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn seconds(text: &str) -> Result<Duration, String> {
    u64::from_str(text).map(Duration::from_secs).map_err(|_| "a whole number of seconds is needed".to_owned())
}

#[cfg(test)]
mod tests;
