//! Arguments of outlets.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use proofline_proto::v1::{self, outlet::Kind};

use super::Signing;

#[derive(Debug, Subcommand)]
pub(crate) enum OutletCommand {
    /// Make a key file; copy it to the outlet keys of every node
    #[command(after_help = "Example:\n  proofline outlet key outlets/ssf-2026.key.pem --kind rsa")]
    Key {
        /// New file, named as the outlet names its key: <KEY_ID>.key.pem
        file: PathBuf,
        /// RSA of 2048 bits for RS256; Ed25519 for EdDSA and webhooks
        #[arg(long, value_enum)]
        kind: KeyKind,
    },
    /// Register an outlet, or replace it; takes two registrars
    #[command(subcommand)]
    Register(OutletRegistration),
    /// List outlets: state, what waits, and which nodes could not send
    #[command(after_help = "Example:\n  proofline outlet list --tenant acme")]
    List {
        /// Tenant; '*' for all
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
    },
    /// List what became of messages, of one outlet or of one containment
    #[command(
        after_help = "Example:\n  proofline outlet deliveries idp --tenant acme\n  proofline outlet deliveries --containment 7 --tenant acme"
    )]
    Deliveries {
        /// Id of the outlet
        #[arg(required_unless_present = "containment", conflicts_with = "containment")]
        outlet: Option<String>,
        /// Number of the containment
        #[arg(long, value_name = "ID")]
        containment: Option<u64>,
        /// Tenant; '*' for all
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
    },
    /// End a pause, or try again an endpoint that said it was gone
    #[command(after_help = "Example:\n  proofline outlet resume idp --reason 'new token' --signer alice=alice.key.pem")]
    Resume(OutletChange),
    /// Have a verification event sent to a stream of Shared Signals, so that its receiver can see that it hears
    #[command(
        after_help = "Example:\n  proofline outlet verify idp --state try-1 --reason 'new receiver' --signer alice=alice.key.pem\n  proofline outlet deliveries idp --tenant acme"
    )]
    Verify {
        /// Id of the outlet
        id: String,
        /// What comes back in the event: at most 256 bytes [default: 32 random hex digits; the entry shows them]
        #[arg(long)]
        state: Option<String>,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Remove an outlet, with what waits for it; takes two registrars
    #[command(after_help = "Example:\n  proofline outlet remove idp --reason replaced --signer alice=a.pem --sign-to remove-idp.command")]
    Remove(OutletChange),
}

#[derive(Debug, Args)]
pub(crate) struct OutletChange {
    /// Id of the outlet
    pub(crate) id: String,
    /// Why; stands in the log
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyKind {
    Rsa,
    Ed25519,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OutletRegistration {
    /// A push stream of Shared Signals: signed CAEP events
    #[command(
        after_help = "Example:\n  proofline outlet register stream idp --tenant acme --issuer https://ledger.example --audience https://idp.example/ssf \\
    --endpoint https://idp.example/ssf/push --key-id ssf-2026 --bearer --signer alice=alice.key.pem --sign-to idp.command"
    )]
    Stream {
        #[command(flatten)]
        common: OutletArguments,
        /// `iss` of every token: as in the configuration of the nodes
        #[arg(long, value_name = "URL")]
        issuer: String,
        /// `aud` of every token: what the receiver asks for
        #[arg(long)]
        audience: String,
        /// How tokens are signed; the interoperability profile of CAEP asks for RS256
        #[arg(long, value_enum, default_value_t = AlgorithmName::Rs256)]
        algorithm: AlgorithmName,
        /// Whom tokens name: the principal alone, or session, user, application and tenant together
        #[arg(long, value_enum, default_value_t = SubjectName::Simple)]
        subject: SubjectName,
        /// Send the bearer token in <ID>.token
        #[arg(long)]
        bearer: bool,
    },
    /// A webhook by Standard Webhooks, signed with Ed25519
    #[command(
        after_help = "Example:\n  proofline outlet register webhook gateway --tenant acme --endpoint https://gateway.example/proofline --key-id hook-2026 \\
    --escalations-only --signer alice=alice.key.pem --sign-to gateway.command"
    )]
    Webhook {
        #[command(flatten)]
        common: OutletArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OutletArguments {
    /// Id of the outlet: a-z 0-9 . _ -
    id: String,
    /// Tenant; '*' for all
    #[arg(long, env = "PROOFLINE_TENANT")]
    tenant: String,
    /// Where messages are posted: https
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// The key that signs: its file on the nodes without .key.pem
    #[arg(long)]
    key_id: String,
    /// Outlet that gets what is not acknowledged in time
    #[arg(long, value_name = "ID", requires = "escalate_after", default_value = "", hide_default_value = true)]
    escalate_to: String,
    /// How long a message may wait for its acknowledgement: seconds
    #[arg(long, value_name = "SECONDS", requires = "escalate_to", default_value_t = 0, hide_default_value = true)]
    escalate_after: u32,
    /// Send only what another outlet could not deliver
    #[arg(long)]
    escalations_only: bool,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AlgorithmName {
    Rs256,
    Eddsa,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SubjectName {
    Simple,
    Complex,
}

impl OutletRegistration {
    /// Returns the outlet to register, and who signs it.
    pub(crate) fn into_parts(self) -> (v1::Outlet, Signing) {
        match self {
            Self::Webhook { common } => {
                let webhook = v1::Webhook { endpoint: common.endpoint.clone(), key_id: common.key_id.clone() };
                common.into_parts(Kind::Webhook(webhook))
            }
            Self::Stream { common, issuer, audience, algorithm, subject, bearer } => {
                let algorithm = match algorithm {
                    AlgorithmName::Rs256 => v1::SigningAlgorithm::Rs256,
                    AlgorithmName::Eddsa => v1::SigningAlgorithm::Eddsa,
                };
                let subject_form = match subject {
                    SubjectName::Simple => v1::SubjectForm::Simple,
                    SubjectName::Complex => v1::SubjectForm::Complex,
                };
                let authorization = if bearer { v1::ReceiverAuthorization::BearerToken } else { v1::ReceiverAuthorization::None };
                let stream = v1::SharedSignals {
                    issuer,
                    audience,
                    endpoint: common.endpoint.clone(),
                    algorithm: algorithm.into(),
                    key_id: common.key_id.clone(),
                    subject_form: subject_form.into(),
                    authorization: authorization.into(),
                };
                common.into_parts(Kind::SharedSignals(stream))
            }
        }
    }
}

impl OutletArguments {
    fn into_parts(self, kind: Kind) -> (v1::Outlet, Signing) {
        let outlet = v1::Outlet {
            outlet_id: self.id,
            tenant_id: self.tenant,
            kind: Some(kind),
            escalate_to: self.escalate_to,
            escalate_after_s: self.escalate_after,
            escalations_only: self.escalations_only,
        };
        (outlet, self.signing)
    }
}
