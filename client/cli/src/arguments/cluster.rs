//! Arguments of commands about nodes, about the cluster as a whole, and about commands that two persons sign.

use std::{path::PathBuf, time::Duration};

use clap::Subcommand;

use super::{PublicKey, SignerFile, Signing, registry::signer, seconds};

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Register the key of a node: from then on it cosigns checkpoints
    #[command(after_help = "Example:\n  proofline node register ledger.example/node-4 --node-id 4 --public-key 5c11... \\
        --signer alice=alice.key.pem --sign-to node-4.command")]
    Register {
        /// Name of its cosignatures, as in policy files
        name: String,
        /// Its Raft id
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        node_id: u64,
        #[command(flatten)]
        public_key: PublicKey,
        #[command(flatten)]
        signing: Signing,
    },
    /// Retire the key of a node: its cosignatures neither count nor are asked for any more
    #[command(after_help = "Example:\n  proofline node retire 3 --reason 'disk lost' --signer alice=a.pem --sign-to retire-3.command")]
    Retire {
        /// Its Raft id
        node_id: u64,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Write the policy file for the nodes that are registered now: out of the whole log, under the present policy
    #[command(after_help = "Example:\n  proofline node policy --out ledger-2.policy")]
    Policy {
        /// Policy file to write: the log key and a majority of the nodes; never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MembershipCommand {
    /// Add a node: it catches up and fetches payloads first, then it votes. Register its key before
    #[command(
        after_help = "Example:\n  proofline membership add 4 --peer-address node-4.example:7400 --client-address node-4.example:7443"
    )]
    Add {
        /// Its Raft id, never used before
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        node_id: u64,
        /// Where the other nodes reach it: host:port
        #[arg(long, value_name = "ADDRESS")]
        peer_address: String,
        /// Where clients reach it: host:port
        #[arg(long, value_name = "ADDRESS")]
        client_address: String,
        /// Name in its peer certificate [default: node-<NODE_ID>]
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        name: String,
        /// How long catching up, payloads included, may take: seconds
        #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
        within: Duration,
        /// Go on although acknowledged payloads may be lost
        #[arg(long)]
        lose_payloads: bool,
    },
    /// Remove nodes, when the others have their payloads. Stop each at once, and retire its key
    #[command(after_help = "Example:\n  proofline membership remove 3")]
    Remove {
        /// Their Raft ids
        #[arg(required = true, value_name = "NODE_ID")]
        node_ids: Vec<u64>,
        /// How long the others may take to fetch their payloads: seconds
        #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
        within: Duration,
        /// Go on although acknowledged payloads may be lost
        #[arg(long)]
        lose_payloads: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CommandFileCommand {
    /// Show a command and who has signed it
    #[command(after_help = "Example:\n  proofline command show node-4.command")]
    Show {
        /// File that --sign-to wrote
        file: PathBuf,
    },
    /// Show a command, and sign it as another operator. Needs no connection
    #[command(after_help = "Example:\n  proofline command sign node-4.command --signer bob=bob.key.pem")]
    Sign {
        /// File that --sign-to wrote; the signature is added to it
        file: PathBuf,
        /// The operator and their key file
        #[arg(long, value_name = "OPERATOR=KEYFILE", value_parser = signer)]
        signer: SignerFile,
        /// Sign without asking
        #[arg(long)]
        yes: bool,
    },
    /// Submit a command that enough operators have signed
    #[command(after_help = "Example:\n  proofline command submit node-4.command")]
    Submit {
        /// File that --sign-to wrote
        file: PathBuf,
    },
}

const GENESIS_HELP: &str = "\
The plan is TOML. Only public keys are in it: `proofline keys show FILE` shows one.

  origin         = \"ledger.example/agents\"     # name of the log; can never be changed
  log_public_key = \"8a88...\"                   # 64 hex digits

  [[operators]]                                # at least two registrars, of different persons
  id         = \"alice\"
  public_key = \"3d40...\"
  roles      = [\"registrar\"]                   # registrar, responder

  [[nodes]]                                    # each node of the first start
  id         = 1
  name       = \"ledger.example/node-1\"         # name of its cosignatures, as in policy files
  public_key = \"071d...\"

  [[grants]]                                   # the first client certificates
  spiffe_id  = \"spiffe://ledger.example/admin\"
  role       = \"operator\"                      # operator, responder, auditor
  tenant     = \"*\"                             # * for everybody's data

  [[grants]]                                   # operators read no entries
  spiffe_id  = \"spiffe://ledger.example/admin\"
  role       = \"auditor\"
  tenant     = \"*\"

Example:
  proofline genesis create genesis.toml --out genesis.bin --policy ledger.policy
  sha256sum genesis.bin                        # must be the same on every node";

#[derive(Debug, Subcommand)]
pub(crate) enum GenesisCommand {
    /// Make the genesis file of a new ledger, and the policy file of its auditors, from public keys
    #[command(after_help = GENESIS_HELP)]
    Create {
        /// Plan: who operates, which nodes, who may call
        plan: PathBuf,
        /// Genesis file to write; never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Policy file to write for auditors: the log key and a majority of the nodes; never overwritten
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Show what a genesis file says
    #[command(after_help = "Example:\n  proofline genesis show genesis.bin")]
    Show {
        /// Genesis file
        file: PathBuf,
    },
}
