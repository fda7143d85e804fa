//! Arguments of tools.

use clap::{Args, Subcommand};

use super::Signing;

#[derive(Debug, Subcommand)]
pub(crate) enum ToolCommand {
    /// List tools with the definitions that were seen and pinned, and whether the newest is none of the good ones
    #[command(after_help = "Example:\n  proofline tool list --tenant acme --drifted")]
    List {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// Only those whose newest definition is none of the good ones
        #[arg(long)]
        drifted: bool,
    },
    /// Say that one definition of a tool is good, and no other, from here on
    #[command(
        after_help = "Example:\n  proofline tool pin query 3d40...9f --server crm --tenant acme --reason 'release 4 reviewed' --signer alice=alice.key.pem"
    )]
    Pin(PinArguments),
    /// Say that one more definition of a tool is good, beside what is good already
    #[command(
        after_help = "Example:\n  proofline tool accept query 71ac...02 --server crm --tenant acme --reason 'canary of release 5' --signer alice=alice.key.pem"
    )]
    Accept(PinArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PinArguments {
    /// Name of the tool
    pub(crate) tool: String,
    /// SHA-256 of the definition: 64 hex digits, as `tool list` shows it
    #[arg(value_parser = digest)]
    pub(crate) definition: [u8; 32],
    /// MCP server that offers it; left out: none
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) server: String,
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Why; stands in the log
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

fn digest(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| "a SHA-256 is 64 hex digits".to_owned())?;
    Ok(digest)
}
