//! Arguments of containment.

use clap::{Args, Subcommand};
use proofline_proto::v1;

use super::Signing;

/// What to stop, and how.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainCommand {
    /// Stop a session and every session below it, to be released once it is looked into
    #[command(
        after_help = "Example:\n  proofline contain suspend run-42 --tenant acme --reason 'reads the payroll' --signer rita=rita.key.pem"
    )]
    Suspend(TargetArguments),
    /// Stop a session and every session below it, for good
    #[command(after_help = "Example:\n  proofline contain revoke run-42 --tenant acme --reason 'incident 4711' --signer rita=rita.key.pem")]
    Revoke(TargetArguments),
    /// Stop whoever uses a credential
    #[command(after_help = "Example:\n  proofline contain credential tok-7 --tenant acme --reason leaked --signer rita=rita.key.pem")]
    Credential(TargetArguments),
    /// Stop an agent in all its sessions
    #[command(
        after_help = "Example:\n  proofline contain agent billing-01 --tenant acme --reason 'prompt injected' --signer rita=rita.key.pem"
    )]
    Agent(TargetArguments),
    /// Stop one running instance of an agent: AGENT_ID/INSTANCE_ID
    #[command(
        after_help = "Example:\n  proofline contain instance billing-01/pod-7f9c --tenant acme --reason 'host compromised' --signer rita=rita.key.pem"
    )]
    Instance(TargetArguments),
    /// Stop every action on an MCP server
    #[command(
        after_help = "Example:\n  proofline contain server mcp-files --tenant acme --reason 'tools changed' --signer rita=rita.key.pem"
    )]
    Server(TargetArguments),
    /// The kill switch: stop every agent of a tenant, or of every tenant
    #[command(after_help = "Example:\n  proofline contain halt --tenant '*' --reason 'incident 4711' --signer rita=rita.key.pem")]
    Halt {
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TargetArguments {
    /// Id, as events name it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) why: Why,
}

/// Whose it is, why, and who signs.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Why; stands in the log
    #[arg(long)]
    pub(crate) reason: String,
    /// Incident that it belongs to
    #[arg(long, value_name = "ID", default_value = "")]
    pub(crate) incident: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContainmentCommand {
    /// List what is contained
    #[command(after_help = "Example:\n  proofline containment list --tenant acme")]
    List {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// List what was released, too
        #[arg(long)]
        released: bool,
    },
    /// Follow every change of what is contained, from an index on
    #[command(after_help = "Example:\n  proofline containment watch --tenant acme --from 0 --output json")]
    Watch {
        /// Tenant; '*' for all
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// Entry to begin with
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Show what happened after a containment began: what it denied, and who was told
    #[command(after_help = "Example:\n  proofline containment effect 7 --tenant acme")]
    Effect {
        /// Number of the containment
        id: u64,
        /// Tenant; '*' for all
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
    },
    /// Lift a containment; takes two responders
    #[command(
        after_help = "Example:\n  proofline containment release 7 --tenant acme --reason 'false alarm' --signer rita=rita.key.pem --signer sam=sam.key.pem"
    )]
    Release {
        /// Number of the containment
        id: u64,
        /// Tenant whose containment it must be; '*' for any
        #[arg(long, env = "PROOFLINE_TENANT", default_value = "*")]
        tenant: String,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        /// Incident that it belongs to
        #[arg(long, value_name = "ID", default_value = "")]
        incident: String,
        #[command(flatten)]
        signing: Signing,
    },
}

impl ContainCommand {
    /// Returns the command to sign, and who signs it.
    pub(crate) fn into_parts(self) -> (v1::Contain, Signing) {
        use v1::{ContainmentAction as Do, TargetKind as Kind};
        let (kind, action, id, why) = match self {
            Self::Suspend(it) => (Kind::Session, Do::SuspendSession, it.id, it.why),
            Self::Revoke(it) => (Kind::Session, Do::RevokeSession, it.id, it.why),
            Self::Credential(it) => (Kind::Credential, Do::RevokeCredential, it.id, it.why),
            Self::Agent(it) => (Kind::Agent, Do::QuarantineAgent, it.id, it.why),
            Self::Instance(it) => (Kind::AgentInstance, Do::QuarantineAgent, it.id, it.why),
            Self::Server(it) => (Kind::Server, Do::BlockServer, it.id, it.why),
            Self::Halt { why } => (Kind::Tenant, Do::HaltAgents, String::new(), why),
        };
        let target = Some(v1::Target { kind: kind.into(), tenant_id: why.tenant, id });
        (v1::Contain { target, action: action.into(), reason: why.reason, incident_id: why.incident }, why.signing)
    }
}
