//! Arguments of payloads, erasure and retention.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Signing;

#[derive(Debug, Subcommand)]
pub(crate) enum PayloadCommand {
    /// Commit to a content: print what an event carries, and keep content and salt in a file; needs no connection
    #[command(
        after_help = "Example:\n  proofline payload commit prompt.txt --name prompt --keep run-42.payloads.jsonl\n\nThe JSON goes into the `payloads` list of an event. Without the file the digest says nothing to anybody."
    )]
    Commit(CommitArguments),
    /// Hand over what events of a collector commit to, so that it can be read, and forgotten, under the ledger's rules
    #[command(
        after_help = "Examples:\n  proofline payload put run-42.payloads.jsonl --index 41 --collector gateway\n  proofline payload put payloads/run-42.jsonl --session run-42 --tenant acme --collector gateway\n\nThe files are those of `payload commit --keep` and of `import otlp --payloads`. With --session the entries are looked up by\ntheir digests, which takes an auditor's role."
    )]
    Put(PutArguments),
    /// Read a payload, check it against its entry, and write it to a file; the log says who asked
    #[command(after_help = "Example:\n  proofline payload get 41 --name prompt --out prompt.txt --purpose case-7")]
    Get(GetArguments),
    /// Destroy everything that is kept of a person or another principal, on every node, for good; takes two registrars
    #[command(
        after_help = "Example:\n  proofline payload erase --issuer https://idp.acme.example --subject 00u1 --tenant acme --ground 'request 7' --signer alice=alice.key.pem --signer bob=bob.key.pem\n\nEntries and proofs stay as they are. A hold on anything of the subject defers it (`proofline hold list`)."
    )]
    Erase(EraseArguments),
    /// Show whether a subject was erased, and what each node says of its keys; exit code 7 while a node has not carried it out
    #[command(after_help = "Example:\n  proofline payload erasure --issuer https://idp.acme.example --subject 00u1 --tenant acme")]
    Erasure(SubjectArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CommitArguments {
    /// File with the content, at most 1 MiB
    pub(crate) file: PathBuf,
    /// What it is: prompt, arguments, result
    #[arg(long)]
    pub(crate) name: String,
    /// Media type
    #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
    pub(crate) media_type: String,
    /// Whose it is, when it is not the initiator's: issuer, a space, and subject
    #[arg(long, value_name = "\"ISSUER SUBJECT\"")]
    pub(crate) subject: Option<String>,
    /// JSON lines to which content and salt are added
    #[arg(long, value_name = "FILE")]
    pub(crate) keep: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PutArguments {
    /// JSON lines with contents and salts
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Entry of the event that commits to all of them
    #[arg(long, value_name = "N", required_unless_present = "session", conflicts_with = "session")]
    pub(crate) index: Option<u64>,
    /// Session whose entries commit to them
    #[arg(long, value_name = "ID", requires = "tenant")]
    pub(crate) session: Option<String>,
    /// Whose session
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: Option<String>,
    /// Whose events they are
    #[arg(long, env = "PROOFLINE_COLLECTOR")]
    pub(crate) collector: String,
}

#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    /// Entry of the event
    pub(crate) index: u64,
    /// Name of the payload, when the event has several
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// File to write; it must not be there
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Why you ask; stands in the log with who asked
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) purpose: String,
}

/// A principal within a tenant.
#[derive(Debug, Args)]
pub(crate) struct SubjectArguments {
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Who issued the pseudonym
    #[arg(long, default_value = "")]
    pub(crate) issuer: String,
    /// The pseudonym, as events have it
    #[arg(long)]
    pub(crate) subject: String,
}

#[derive(Debug, Args)]
pub(crate) struct EraseArguments {
    #[command(flatten)]
    pub(crate) subject: SubjectArguments,
    /// Why; stands in the log
    #[arg(long)]
    pub(crate) ground: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Set how long payloads of a tenant are kept, in days, at least 183; takes two registrars
    #[command(
        after_help = "Example:\n  proofline retention set 400 --tenant acme --reason 'AI Act 19(1)' --signer alice=alice.key.pem --signer bob=bob.key.pem"
    )]
    Set {
        /// Days
        days: u32,
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Show the floor, the setting, what is there, and what holds keep longer
    #[command(after_help = "Example:\n  proofline retention show --tenant acme")]
    Show {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
    },
}
