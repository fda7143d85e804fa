//! Arguments of commands that follow keys through the log.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand, ValueEnum};
use proofline_proto::v1::{Dimension, LineageDirection};

/// Keys to begin with; each may be given several times.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KeyArguments {
    /// A session
    #[arg(long, value_name = "ID", help_heading = "Begin with")]
    pub(crate) session: Vec<String>,
    /// An agent
    #[arg(long, value_name = "ID", help_heading = "Begin with")]
    pub(crate) agent: Vec<String>,
    /// A principal: issuer, a space, and subject
    #[arg(long, value_name = "\"ISSUER SUBJECT\"", help_heading = "Begin with")]
    pub(crate) principal: Vec<String>,
    /// A resource
    #[arg(long, value_name = "URI", help_heading = "Begin with")]
    pub(crate) resource: Vec<String>,
    /// A tool
    #[arg(long, value_name = "SERVER/NAME", help_heading = "Begin with")]
    pub(crate) tool: Vec<String>,
    /// An MCP server
    #[arg(long, value_name = "ID", help_heading = "Begin with")]
    pub(crate) server: Vec<String>,
    /// A system: a database, a store
    #[arg(long, value_name = "NAME", help_heading = "Begin with")]
    pub(crate) system: Vec<String>,
    /// A credential
    #[arg(long, value_name = "ID", help_heading = "Begin with")]
    pub(crate) credential: Vec<String>,
    /// A collector; belongs to no tenant
    #[arg(long, value_name = "ID", help_heading = "Begin with")]
    pub(crate) collector: Vec<String>,
    /// A rule that found something
    #[arg(long, value_name = "ID", help_heading = "Begin with")]
    pub(crate) rule: Vec<String>,
    /// Whose keys
    #[arg(long, env = "PROOFLINE_TENANT", value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
}

/// Where and when.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReachArguments {
    /// On whose authority (up), what it touched (down), or both
    #[arg(long, value_enum, default_value_t = DirectionName::Both)]
    pub(crate) direction: DirectionName,
    /// How many steps; 0: the entries of the keys alone
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=32))]
    pub(crate) depth: u32,
    /// Go on only to keys of this kind; may be given several times
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) kind: Vec<KindName>,
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

#[derive(Debug, Args)]
#[command(after_help = "\
Every page is verified as it comes, against the policy of the profile: a node that leaves something out is refused by name. \
The node records who asked. Exit code 4: the answer was cut short, or nothing vouches for it being all.

Examples:
  proofline lineage --session run-42 --tenant acme
  proofline lineage --resource crm://customers/7 --tenant acme --direction up --depth 4
  proofline lineage --rule D06-blast-radius --tenant acme --from 2026-11-01T00:00:00Z --format ocsf > findings.jsonl")]
pub(crate) struct LineageArguments {
    #[command(flatten)]
    pub(crate) keys: KeyArguments,
    #[command(flatten)]
    pub(crate) reach: ReachArguments,
    /// Lines for other systems instead: OCSF events, or CSV
    #[arg(long, value_enum)]
    pub(crate) format: Option<LineFormat>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  proofline blast-radius run-42 --tenant acme")]
pub(crate) struct BlastRadiusArguments {
    /// Session id
    #[arg(value_name = "SESSION", required_unless_present = "named")]
    session: Option<String>,
    /// The same, as other commands take it
    #[arg(long = "session", value_name = "SESSION", conflicts_with = "session", hide = true)]
    named: Option<String>,
    /// Whose session
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// End before this entry, or with what was committed before this time [default: everything before the question; it waits until that can be proven]
    #[arg(long, value_name = "INDEX|TIME")]
    pub(crate) to: Option<WindowEnd>,
    /// Why you ask; stands in the log with who asked
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) purpose: String,
}

impl BlastRadiusArguments {
    /// The keys to begin with: one session.
    pub(crate) fn keys(&self) -> KeyArguments {
        let session = self.session.iter().chain(&self.named).cloned().collect();
        KeyArguments { session, tenant: Some(self.tenant.clone()), ..KeyArguments::default() }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Write the answer to a question with all that is needed to verify it elsewhere
    Export(Box<EvidenceArguments>),
    /// List the controls that --control takes
    #[command(after_help = "Example:\n  proofline evidence controls")]
    Controls,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The file is verified before the command ends, as `proofline verify` does it; a file that is there is kept unless --force is given.

Examples:
  proofline evidence export --session run-42 --tenant acme --out run-42.evidence.zip
  proofline evidence export --control SOC2-CC7.2 --tenant acme --from 2026-07-01T00:00:00Z --to 2026-10-01T00:00:00Z --out cc7.evidence.zip
  proofline evidence export --window --from 1000 --to 2000 --out window.evidence.zip --consistent-with may.checkpoint")]
pub(crate) struct EvidenceArguments {
    #[command(flatten)]
    pub(crate) keys: KeyArguments,
    /// Every entry of the window (--from, --to)
    #[arg(long, conflicts_with = "control")]
    pub(crate) window: bool,
    /// What speaks for a control (`proofline evidence controls` lists them)
    #[arg(long, value_name = "ID")]
    pub(crate) control: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArguments,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Put the payloads in that the ledger has; each that is read is recorded
    #[arg(long)]
    pub(crate) payloads: bool,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// A checkpoint that the reader holds: the file then proves that the log only grew since
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) consistent_with: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DirectionName {
    Up,
    Down,
    Both,
    None,
}

impl DirectionName {
    pub(crate) fn direction(self) -> LineageDirection {
        match self {
            Self::Up => LineageDirection::Up,
            Self::Down => LineageDirection::Down,
            Self::Both => LineageDirection::Both,
            Self::None => LineageDirection::Unspecified,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    Session,
    Agent,
    Principal,
    Resource,
    Tool,
    Server,
    System,
    Credential,
}

impl KindName {
    pub(crate) fn dimension(self) -> Dimension {
        match self {
            Self::Session => Dimension::Session,
            Self::Agent => Dimension::Agent,
            Self::Principal => Dimension::Principal,
            Self::Resource => Dimension::Resource,
            Self::Tool => Dimension::Tool,
            Self::Server => Dimension::Server,
            Self::System => Dimension::System,
            Self::Credential => Dimension::Credential,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    /// JSON lines of the Open Cybersecurity Schema Framework
    Ocsf,
    /// Comma-separated values with a heading
    Csv,
}

/// An end of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowEnd {
    Index(u64),
    UnixNs(u64),
}

impl FromStr for WindowEnd {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(index) = text.parse() {
            return Ok(Self::Index(index));
        }
        let time: Option<jiff::Timestamp> = text.parse().ok();
        let unix_ns = time.and_then(|time| u64::try_from(time.as_nanosecond()).ok()).filter(|unix_ns| *unix_ns > 0);
        unix_ns.map(Self::UnixNs).ok_or_else(|| "an entry index or an RFC 3339 time is needed".to_owned())
    }
}
