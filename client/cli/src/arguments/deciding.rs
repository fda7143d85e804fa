//! Arguments of rules, approvals, purposes and servers.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Signing;

const TEST_HELP: &str = "\
A scenario is JSON: what happens, and what the rules must say to it. An event that is not said to find something must find \
nothing and be allowed. \"as\" names an intent, and \"@name\" stands for its event id.

  {\"scenario\": \"a table dropped at night\", \"at\": \"2026-03-02T02:00:00Z\",
   \"defaults\": {\"tenant_id\": \"acme\", \"vantage\": \"gateway_observed\", \"session\": {\"session_id\": \"s-1\"},
                \"attribution\": {\"initiator\": {\"kind\": \"human\", \"issuer\": \"https://idp\", \"subject\": \"u-1\"},
                                \"agent\": {\"agent_id\": \"billing-01\"}}},
   \"steps\": [{\"event\": {\"action_intent\": {\"verb\": \"resource_delete\", \"tool\": {\"name\": \"drop\"}}},
              \"verdict\": \"deny\", \"findings\": [\"no-drop\"]}]}

Other steps: {\"wait_s\": 60}, {\"command\": {\"register_agent\": {...}}}; {\"repeat\": 9, \"event\": ...} expects of the last.
A file may hold one scenario or a list of them.

Example:
  proofline rules test rules.cedar scenarios/*.json";

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// Check a rule set: syntax, schema, annotations, limits; every fault with its place
    #[command(after_help = "Example:\n  proofline rules check rules.cedar")]
    Check {
        /// Cedar policies
        file: PathBuf,
        /// The set may deny every event
        #[arg(long)]
        denies_everything: bool,
    },
    /// Play scenarios against a rule set, offline, and compare what it finds with what it should
    #[command(after_help = TEST_HELP)]
    Test {
        /// Cedar policies
        file: PathBuf,
        /// Files of scenarios
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// Judge the past by a candidate set: findings added and removed, rule by rule
    #[command(after_help = "Example:\n  proofline rules simulate rules.cedar --from 10000 --out simulation.json")]
    Simulate(SimulateArguments),
    /// Put a rule set in force; takes two registrars, and the report of its simulation
    #[command(
        after_help = "Example:\n  proofline rules activate rules.cedar --simulation simulation.json --reason 'first pack' \\\n      --signer alice=alice.key.pem --signer bob=bob.key.pem"
    )]
    Activate(ActivateArguments),
    /// Show the rules in force, and the activations before them
    #[command(after_help = "Example:\n  proofline rules show --text > rules.cedar")]
    Show {
        /// The set that this entry activated
        #[arg(long, value_name = "INDEX", default_value_t = 0, hide_default_value = true)]
        activated: u64,
        /// Only the text of the rules
        #[arg(long)]
        text: bool,
    },
    /// Print the schema that rules are checked against
    #[command(after_help = "Example:\n  proofline rules schema > proofline.cedarschema")]
    Schema,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArguments {
    /// Cedar policies
    pub(crate) file: PathBuf,
    /// First entry of the window
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// End of the window, itself excluded [default: the newest checkpoint]
    #[arg(long)]
    pub(crate) to: Option<u64>,
    /// File to write the report to; an activation names its digest
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ActivateArguments {
    /// Cedar policies
    pub(crate) file: PathBuf,
    /// Report that `rules simulate --out` wrote for these very rules
    #[arg(long, value_name = "FILE")]
    pub(crate) simulation: PathBuf,
    /// Why; stands in the log
    #[arg(long)]
    pub(crate) reason: String,
    /// The set may deny every event
    #[arg(long)]
    pub(crate) denies_everything: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DecisionCommand {
    /// Write one decision to a file: the entry with its proof, its facts, and the rules that were in force
    #[command(after_help = "Example:\n  proofline decision export 4711 --out 4711.decision")]
    Export {
        /// Entry of an event on which a rule had something to say
        index: u64,
        /// File to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Decide again from such a file, offline, and compare
    #[command(after_help = "Example:\n  proofline decision check 4711.decision --policy ledger.policy")]
    Check {
        /// File of one decision
        file: PathBuf,
        /// Trust policy
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// List what waits for somebody's yes
    #[command(after_help = "Example:\n  proofline approval list --tenant acme")]
    List {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// List what was answered, too
        #[arg(long)]
        answered: bool,
    },
    /// Let one exact action of one session through, once
    #[command(
        after_help = "Example:\n  proofline approval grant 4711 --tenant acme --reason 'called the customer' --signer rita=rita.key.pem"
    )]
    Grant(AnswerArguments),
    /// Say no to it
    #[command(after_help = "Example:\n  proofline approval deny 4711 --tenant acme --reason 'not ours' --signer rita=rita.key.pem")]
    Deny(AnswerArguments),
    /// Take back a yes that nobody has used; whoever wants to act must ask anew
    #[command(
        after_help = "Example:\n  proofline approval withdraw 4711 --tenant acme --reason 'wrong customer' --signer rita=rita.key.pem"
    )]
    Withdraw {
        /// Entry of the intent that was approved, as `approval list --answered` shows it
        intent: u64,
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
        /// Why; stands in the log
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        signing: Signing,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArguments {
    /// Entry of the intent that asks, as `approval list` shows it
    pub(crate) intent: u64,
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Why; stands in the log
    #[arg(long)]
    pub(crate) reason: String,
    /// How long the answer holds: minutes, at most 1,440
    #[arg(long, value_name = "MINUTES", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub(crate) holds_for: u64,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Args)]
pub(crate) struct UnresolvedArguments {
    /// Tenant; '*' for all
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Only those that are at least this old: seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) older_than: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClassificationName {
    Public,
    Internal,
    Confidential,
    Restricted,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PurposeCommand {
    /// Declare what agents that name this purpose may do; declaring it again replaces it
    #[command(
        after_help = "Example:\n  proofline purpose declare refunds --tenant acme --tool lookup --tool refund --resource 'crm://orders/*' \\\n      --classification-max confidential --valid-days 90 --signer alice=alice.key.pem"
    )]
    Declare(Box<PurposeArguments>),
    /// List what is declared
    #[command(after_help = "Example:\n  proofline purpose list --tenant acme")]
    List {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PurposeArguments {
    /// Id, as events name it
    pub(crate) id: String,
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Tool that may be used; none given: any
    #[arg(long = "tool", value_name = "NAME")]
    pub(crate) tools: Vec<String>,
    /// Resource that may be touched: a URI, or its beginning and a star; none given: any
    #[arg(long = "resource", value_name = "URI")]
    pub(crate) resources: Vec<String>,
    /// Highest classification of what may be touched
    #[arg(long, value_enum)]
    pub(crate) classification_max: Option<ClassificationName>,
    /// Region that data may lie in; none given: any
    #[arg(long = "region", value_name = "NAME")]
    pub(crate) regions: Vec<String>,
    /// When it ends: days from now; left out: never
    #[arg(long, value_name = "DAYS")]
    pub(crate) valid_days: Option<u32>,
    /// For people
    #[arg(long, default_value = "")]
    pub(crate) description: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Register an MCP server; without --approved it is known, and rules may still object
    #[command(
        after_help = "Example:\n  proofline server register mcp-files --tenant acme --approved --business-owner ops --technical-owner it --signer alice=alice.key.pem"
    )]
    Register(Box<ServerArguments>),
    /// List MCP servers: registered ones, and those that only events have named
    #[command(after_help = "Example:\n  proofline server list --tenant acme")]
    List {
        /// Tenant
        #[arg(long, env = "PROOFLINE_TENANT")]
        tenant: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// Id, as events name it
    pub(crate) id: String,
    /// Tenant
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// For people
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// Who answers for what it is used for
    #[arg(long, default_value = "")]
    pub(crate) business_owner: String,
    /// Who runs it
    #[arg(long, default_value = "")]
    pub(crate) technical_owner: String,
    /// Agents may use it
    #[arg(long)]
    pub(crate) approved: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
}
