//! Arguments of commands that append events.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::VantageName;

const APPEND_HELP: &str = "\
Each line is one event as JSON: the fields of the contract by their names, the body under its own name. Bytes are hex, \
enums lower case without their prefix, 64-bit numbers strings or numbers, times decimal nanoseconds or RFC 3339. \
Left out, event_id is made, observed_unix_ns is now, tenant_id and vantage come from the flags. An event whose event_id \
was appended before is not appended again.

Example:
  proofline append - --collector gateway --key gateway.key.pem --tenant acme <<'END'
  {\"session\": {\"session_id\": \"run-42\"}, \"attribution\": {\"initiator\": {\"kind\": \"human\", \"issuer\": \"https://idp.acme.example\", \
\"subject\": \"00u1\"}, \"agent\": {\"agent_id\": \"billing-01\"}}, \"action_intent\": {\"verb\": \"tool_call\", \"tool\": {\"name\": \"refund\"}}}
  END";

const OTLP_HELP: &str = "\
Each line is one ExportTraceServiceRequest in OTLP/JSON. Spans that follow the GenAI conventions become events: invoke_agent \
RunStarted and RunEnded, chat and the like ModelCall, execute_tool ActionIntent and ActionOutcome. Messages, arguments and \
results never enter the log: with --payloads their salted digests do, and the content stays in that directory. Spans that \
were imported before are recognised by trace id and span id, out of the journal of their collector and lane: keep it, with the \
key of the pseudonyms in it, and import the same source through the same lane.

--tools names a TOML file that says what each tool does; without it a tool call is a name and nothing else. In it, for each tool:
  [tool.cancel_booking]
  verb = \"resource_delete\"                # as in the contract
  tier = \"destructive\"                    # read, write, destructive, provision
  amount = { refunded = \"result.payments.amount\", minor_units = 100 }   # or { paid = PLACE }: money that moves away
  records = \"result.rows\"                 # a list: how many came back
  compare = [{ tag = \"differs:cabin\", one = \"arguments.cabin\", other = \"result.cabin\" }]
  count = [{ tag = \"cards:many\", of = \"arguments.payments.id\", begins = \"card_\", more_than = 1 }]
  [[tool.cancel_booking.resource]]
  uri = \"booking://{arguments.id}\"        # system, kind, classification, environment, region beside it
  owner = \"result.user\"                   # becomes the tag owner:SUBJECT, with the subject that this user is as an initiator
  record = \"result\"                       # where the result shows the whole of it: `known` in later calls of the trace
  tags = [\"booking\", \"cabin:{result.cabin}\", \"was:{known.cabin}\", \"for:{subject(arguments.user)}\"]
A place begins with arguments, result or known. What needs the result is said of the outcome, the rest of the intent, too. Of a \
result that is no JSON nothing is said. The intent carries the SHA-256 of its arguments (sorted, users as subjects), which an \
approval binds.

Example:
  proofline import otlp traces.jsonl.gz --collector gateway --key gateway.key.pem --tenant acme \\
      --issuer https://idp.acme.example --payloads ./payloads";

/// Which chain events are appended to.
#[derive(Debug, Args)]
pub(crate) struct LaneArguments {
    /// Collector id, as registered
    #[arg(long, env = "PROOFLINE_COLLECTOR", value_name = "ID")]
    pub(crate) collector: String,
    /// The collector's key file
    #[arg(long, env = "PROOFLINE_COLLECTOR_KEY", value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Lane; one process at a time uses a lane
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..64))]
    pub(crate) lane: u32,
    /// Directory of journals: one for each collector and lane [default: `journals` beside the profile]
    #[arg(long, env = "PROOFLINE_JOURNALS", value_name = "DIR")]
    pub(crate) journals: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = APPEND_HELP)]
pub(crate) struct AppendArguments {
    /// File of JSON lines; - is standard input
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) lane: LaneArguments,
    /// Tenant of events that name none
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: Option<String>,
    /// Vantage of events that name none
    #[arg(long, value_enum, default_value = "self-reported")]
    pub(crate) vantage: VantageName,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// OpenTelemetry traces of agents: OTLP/JSON lines, plain or gzip
    #[command(after_help = OTLP_HELP)]
    Otlp(OtlpArguments),
}

#[derive(Debug, Args)]
pub(crate) struct OtlpArguments {
    /// File of OTLP/JSON lines, plain or gzip; - is standard input
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) lane: LaneArguments,
    /// Whose events these are
    #[arg(long, env = "PROOFLINE_TENANT")]
    pub(crate) tenant: String,
    /// Who vouches for the users that enduser.id names
    #[arg(long, value_name = "URI")]
    pub(crate) issuer: String,
    /// Where the spans were seen from
    #[arg(long, value_enum, default_value = "self-reported")]
    pub(crate) vantage: VantageName,
    /// What the tools do: verbs, resources, owners, tags, amounts (see below)
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,
    /// Directory for content and salts; without it content is left out altogether
    #[arg(long, value_name = "DIR")]
    pub(crate) payloads: Option<PathBuf>,
    /// How enduser.id enters the log
    #[arg(long, value_enum, default_value = "pseudonym")]
    pub(crate) subjects: Subjects,
    /// Key of the pseudonyms: made when it is not there [default: `pseudonym.key` among the journals]
    #[arg(long, value_name = "FILE")]
    pub(crate) pseudonym_key: Option<PathBuf>,
    /// Go on with a journal that knows nothing of what this lane sent before: spans that are in the log come in again
    #[arg(long)]
    pub(crate) new_journal: bool,
}

/// How a user's id becomes a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subjects {
    /// As a keyed hash: the id may name a person
    Pseudonym,
    /// As it is: the id is opaque already
    AsGiven,
}
