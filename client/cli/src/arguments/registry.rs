//! Arguments of commands that operators sign.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use proofline_proto::v1;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new Ed25519 key, readable by its owner alone
    #[command(after_help = "Example:\n  proofline keys generate gateway.key.pem")]
    Generate {
        /// File to write; never overwritten
        file: PathBuf,
    },
    /// Show the public half of a key
    #[command(after_help = "Example:\n  proofline keys show gateway.key.pem")]
    Show {
        /// Key file
        file: PathBuf,
    },
}

/// Who signs a command, and where it goes then.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// An operator and their key file; twice for commands that take two persons, if both keys are at hand
    #[arg(long = "signer", value_name = "OPERATOR=KEYFILE", required = true, value_parser = signer)]
    pub(crate) signers: Vec<SignerFile>,

    /// Write the signed command to this file instead of submitting it, for another operator to sign
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_to: Option<PathBuf>,

    /// How long a command that goes to a file is good: hours, at most 24
    #[arg(long, value_name = "HOURS", default_value_t = 8, requires = "sign_to", value_parser = clap::value_parser!(u64).range(1..=24))]
    pub(crate) valid_for: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignerFile {
    pub(crate) operator_id: String,
    pub(crate) file: PathBuf,
}

pub(super) fn signer(text: &str) -> Result<SignerFile, String> {
    match text.split_once('=') {
        Some((operator, file)) if !operator.is_empty() && !file.is_empty() => {
            Ok(SignerFile { operator_id: operator.to_owned(), file: file.into() })
        }
        Some(_) | None => Err("OPERATOR=KEYFILE is needed, as in alice=alice.key.pem".to_owned()),
    }
}

/// A public key, by itself or as half of a key file.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PublicKey {
    /// Public key: 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = public_key)]
    pub(crate) public_key: Option<[u8; 32]>,

    /// Key file; only the public half is used
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

fn public_key(text: &str) -> Result<[u8; 32], String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    bytes.try_into().map_err(|_| "an Ed25519 public key has 32 bytes: 64 hex digits".to_owned())
}

#[derive(Debug, Subcommand)]
pub(crate) enum CollectorCommand {
    /// Register a collector, or replace its key and scope
    #[command(after_help = "Example:\n  proofline collector register gateway --key gateway.key.pem \
        --spiffe-id spiffe://acme.example/collector/gateway --tenant acme --vantage gateway-observed --signer alice=alice.key.pem")]
    Register(Box<CollectorRegistration>),
    /// Revoke a collector: nothing that it signs is taken any more
    #[command(after_help = "Example:\n  proofline collector revoke gateway --reason 'host compromised' --signer alice=alice.key.pem")]
    Revoke {
        /// Collector id
        id: String,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// List collectors
    #[command(after_help = "Example:\n  proofline collector list")]
    List,
    /// Show where a lane stands, to the collector itself
    #[command(after_help = "Example:\n  proofline collector head gateway --lane 0")]
    Head {
        /// Collector id
        id: String,
        /// Lane
        #[arg(long, default_value_t = 0)]
        lane: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CollectorRegistration {
    /// Collector id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) public_key: PublicKey,
    /// Identity in the collector's client certificate
    #[arg(long, value_name = "URI")]
    pub(crate) spiffe_id: String,
    /// Whose events it may send
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Agents whose events it may send; may be given several times
    #[arg(long = "agent", value_name = "AGENT_ID", default_value = "*")]
    pub(crate) agents: Vec<String>,
    /// Where it sees events from; may be given several times
    #[arg(long = "vantage", value_enum, default_value = "self-reported")]
    pub(crate) vantages: Vec<VantageName>,
    /// Most events in an hour; 0 takes the ledger's default
    #[arg(long, default_value_t = 0)]
    pub(crate) events_per_hour: u64,
    /// Most new sessions in an hour; 0 takes the ledger's default
    #[arg(long, default_value_t = 0)]
    pub(crate) sessions_per_hour: u64,
    /// Most bytes of payloads that events commit to in an hour; 0 takes the ledger's default
    #[arg(long, default_value_t = 0)]
    pub(crate) payload_bytes_per_hour: u64,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VantageName {
    SelfReported,
    GatewayObserved,
    TargetObserved,
    IdpObserved,
}

impl From<VantageName> for v1::Vantage {
    fn from(name: VantageName) -> Self {
        match name {
            VantageName::SelfReported => Self::SelfReported,
            VantageName::GatewayObserved => Self::GatewayObserved,
            VantageName::TargetObserved => Self::TargetObserved,
            VantageName::IdpObserved => Self::IdpObserved,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Register an agent with its owners and the way to stop it
    #[command(after_help = "Example:\n  proofline agent register billing-01 --tenant acme --business-owner finance \
        --technical-owner platform --revocation-path https://idp.acme.example/apps/billing --signer alice=alice.key.pem")]
    Register(Box<AgentRegistration>),
    /// Decommission an agent
    #[command(after_help = "Example:\n  proofline agent revoke billing-01 --tenant acme --reason retired --signer alice=alice.key.pem")]
    Revoke {
        /// Agent id
        id: String,
        /// Whose agent
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Move an agent along its life: approved, then production, which takes owners, a revocation path, and rules in force
    #[command(
        after_help = "Example:\n  proofline agent state billing-01 production --tenant acme --reason 'reviewed' --signer alice=alice.key.pem"
    )]
    State {
        /// Agent id
        id: String,
        /// Where it goes
        #[arg(value_enum)]
        state: AgentStateName,
        /// Whose agent
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// List agents, also those that nobody registered
    #[command(after_help = "Example:\n  proofline agent list --tenant acme --state unregistered")]
    List {
        /// Whose agents
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<AgentStateName>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AgentRegistration {
    /// Agent id
    pub(crate) id: String,
    /// Whose agent
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Name for people
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// Who answers for what it does
    #[arg(long)]
    pub(crate) business_owner: String,
    /// Who runs it
    #[arg(long)]
    pub(crate) technical_owner: String,
    /// How it is stopped; may be given several times
    #[arg(long = "revocation-path", value_name = "URI", required = true)]
    pub(crate) revocation_paths: Vec<String>,
    /// Where its source lies
    #[arg(long, value_name = "URI", default_value = "")]
    pub(crate) repository: String,
    /// Commit that it was built from
    #[arg(long, value_name = "COMMIT", default_value = "")]
    pub(crate) revision: String,
    /// Image that runs
    #[arg(long, value_name = "DIGEST", default_value = "")]
    pub(crate) image_digest: String,
    /// Run of the pipeline that deployed it
    #[arg(long, value_name = "ID", default_value = "")]
    pub(crate) pipeline_run: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AgentStateName {
    Unregistered,
    Registered,
    Approved,
    Production,
    Suspended,
    Decommissioned,
}

impl From<AgentStateName> for v1::AgentState {
    fn from(name: AgentStateName) -> Self {
        match name {
            AgentStateName::Unregistered => Self::Unregistered,
            AgentStateName::Registered => Self::Registered,
            AgentStateName::Approved => Self::Approved,
            AgentStateName::Production => Self::Production,
            AgentStateName::Suspended => Self::Suspended,
            AgentStateName::Decommissioned => Self::Decommissioned,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Register an operator, or replace their key and roles
    #[command(after_help = "Example:\n  proofline operator register carol --public-key 3d40... --role registrar \
        --signer alice=alice.key.pem --signer bob=bob.key.pem")]
    Register {
        /// Operator id
        id: String,
        #[command(flatten)]
        public_key: PublicKey,
        /// What their key may sign; may be given several times
        #[arg(long = "role", value_enum, required = true)]
        roles: Vec<OperatorRoleName>,
        /// Under which the person appears as an initiator: nobody approves what they asked for
        #[arg(long, default_value = "")]
        subject: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Revoke an operator
    #[command(after_help = "Example:\n  proofline operator revoke carol --reason left --signer alice=a.pem --signer bob=b.pem")]
    Revoke {
        /// Operator id
        id: String,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OperatorRoleName {
    Registrar,
    Responder,
}

impl From<OperatorRoleName> for v1::OperatorRole {
    fn from(name: OperatorRoleName) -> Self {
        match name {
            OperatorRoleName::Registrar => Self::Registrar,
            OperatorRoleName::Responder => Self::Responder,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Let the holder of a certificate call the procedures of a role
    #[command(after_help = "Example:\n  proofline role grant spiffe://acme.example/auditor auditor --tenant acme --signer alice=a.pem")]
    Grant(RoleArguments),
    /// Take a role back
    #[command(after_help = "Example:\n  proofline role revoke spiffe://acme.example/auditor auditor --tenant acme --signer alice=a.pem")]
    Revoke(RoleArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RoleArguments {
    /// Identity in the client certificate
    pub(crate) spiffe_id: String,
    /// Role
    #[arg(value_enum)]
    pub(crate) role: RoleName,
    /// For whose data; * for everybody's
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    Collector,
    Auditor,
    Responder,
    Operator,
}

impl From<RoleName> for v1::Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Collector => Self::Collector,
            RoleName::Auditor => Self::Auditor,
            RoleName::Responder => Self::Responder,
            RoleName::Operator => Self::Operator,
        }
    }
}
