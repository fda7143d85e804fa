//! Arguments of incidents and holds.

use clap::{Args, Subcommand, ValueEnum};
use proofline_proto::v1;

use super::{Signing, WindowEnd};

#[derive(Debug, Subcommand)]
pub(crate) enum IncidentCommand {
    /// Open an incident; its clock runs from here: 24 hours to contain and preserve, 72 to scope, classify and revoke
    #[command(
        after_help = "Example:\n  proofline incident open inc-7 --tenant acme --title 'payroll read at night' --severity high --signer rita=rita.key.pem"
    )]
    Open {
        /// Id; `contain --incident` names it
        id: String,
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// What it is about
        #[arg(long)]
        title: String,
        /// How bad it is
        #[arg(long, value_enum)]
        severity: SeverityName,
        #[command(flatten)]
        signing: Signing,
    },
    /// Take note that the next stage is reached; stages come in their order
    #[command(
        after_help = "Example:\n  proofline incident advance inc-7 classified --cause over-privilege --tenant acme --note 'token of the admin' --signer rita=rita.key.pem"
    )]
    Advance(Box<AdvanceArguments>),
    /// Count what was in reach of what the incident's containments stop: systems, resources, sessions, agents, credentials
    #[command(after_help = "Example:\n  proofline incident scope inc-7 --tenant acme --purpose inc-7")]
    Scope {
        /// Id of the incident
        id: String,
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// End before this entry, or with what was committed before this time [default: everything before the question; it waits until that can be proven]
        #[arg(long, value_name = "INDEX|TIME")]
        to: Option<WindowEnd>,
        /// Why you ask; stands in the log with who asked
        #[arg(long, value_name = "TEXT", default_value = "")]
        purpose: String,
    },
    /// List incidents, their stages, and what is due when
    #[command(after_help = "Example:\n  proofline incident list --tenant acme")]
    List {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// List closed ones, too
        #[arg(long)]
        closed: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AdvanceArguments {
    /// Id of the incident
    pub(crate) id: String,
    /// Stage that is reached
    #[arg(value_enum)]
    pub(crate) stage: StageName,
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// What caused it; with `classified`
    #[arg(long, value_enum)]
    pub(crate) cause: Option<CauseName>,
    /// What was done or found; stands in the log
    #[arg(long, default_value = "")]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeverityName {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl From<SeverityName> for v1::Severity {
    fn from(name: SeverityName) -> Self {
        match name {
            SeverityName::Info => Self::Info,
            SeverityName::Low => Self::Low,
            SeverityName::Medium => Self::Medium,
            SeverityName::High => Self::High,
            SeverityName::Critical => Self::Critical,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StageName {
    Contained,
    Preserved,
    Scoped,
    Classified,
    CredentialsRevoked,
    PolicyRebuilt,
    Closed,
}

impl From<StageName> for v1::IncidentStage {
    fn from(name: StageName) -> Self {
        match name {
            StageName::Contained => Self::Contained,
            StageName::Preserved => Self::Preserved,
            StageName::Scoped => Self::Scoped,
            StageName::Classified => Self::Classified,
            StageName::CredentialsRevoked => Self::CredentialsRevoked,
            StageName::PolicyRebuilt => Self::PolicyRebuilt,
            StageName::Closed => Self::Closed,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CauseName {
    OverPrivilege,
    UnsafeToolUse,
    MisScopedDeployment,
    Compromise,
}

impl From<CauseName> for v1::IncidentCause {
    fn from(name: CauseName) -> Self {
        match name {
            CauseName::OverPrivilege => Self::OverPrivilege,
            CauseName::UnsafeToolUse => Self::UnsafeToolUse,
            CauseName::MisScopedDeployment => Self::MisScopedDeployment,
            CauseName::Compromise => Self::Compromise,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// Keep evidence from being erased; containments do so by themselves
    #[command(
        after_help = "Example:\n  proofline hold place session run-42 --tenant acme --matter 'case 12' --authority 'district court' --signer rita=rita.key.pem"
    )]
    Place(Box<HoldArguments>),
    /// Lift a hold; takes two responders
    #[command(
        after_help = "Example:\n  proofline hold release 3 --reason 'case settled' --signer rita=rita.key.pem --signer sam=sam.key.pem"
    )]
    Release {
        /// Number of the hold
        id: u64,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// List what must not be erased
    #[command(after_help = "Example:\n  proofline hold list --tenant acme")]
    List {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// List what was released, too
        #[arg(long)]
        released: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct HoldArguments {
    /// What kind of thing is held
    #[arg(value_enum)]
    pub(crate) kind: HeldKind,
    /// Id, as events name it; left out for a tenant
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) id: String,
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// In which matter
    #[arg(long)]
    pub(crate) matter: String,
    /// By whose authority
    #[arg(long)]
    pub(crate) authority: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeldKind {
    Session,
    Agent,
    Credential,
    Server,
    Tenant,
}

impl From<HeldKind> for v1::TargetKind {
    fn from(kind: HeldKind) -> Self {
        match kind {
            HeldKind::Session => Self::Session,
            HeldKind::Agent => Self::Agent,
            HeldKind::Credential => Self::Credential,
            HeldKind::Server => Self::Server,
            HeldKind::Tenant => Self::Tenant,
        }
    }
}
