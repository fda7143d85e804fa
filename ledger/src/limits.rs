//! Every limit of the ledger, in one place.

/// Longest entry, in bytes: an entry bundle of tlog-tiles carries 16-bit lengths.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Longest event, in bytes: leaves room in its entry for the place, the decision and the session root.
pub const EVENT_BYTES_MAX: usize = 60_000;
/// Most values of each repeated field of an event, wherever in it the field stands.
pub const EVENT_LIST_MAX: usize = 64;
/// Most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 4_096;
/// Most bytes of events in one batch.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest command, in bytes: a rule set and what stands around it.
pub const COMMAND_BYTES_MAX: usize = 52 * 1024;
/// Longest identifier, in bytes.
pub const ID_BYTES_MAX: usize = 256;
/// Longest collector or operator id, in bytes.
pub const SIGNER_ID_BYTES_MAX: usize = 128;
/// Longest name of a key, which is a node's or the log's, in bytes: that of policy files.
pub const KEY_NAME_BYTES_MAX: usize = 255;
/// Longest name of the log, in bytes.
pub const ORIGIN_BYTES_MAX: usize = 128;
/// Lanes of one collector.
pub const LANES_MAX: u32 = 64;
/// Openings of a lane whose nonces are remembered: a nonce of one of them gets its first answer again.
pub const OPENINGS_KEPT: u64 = 16;
/// Sessions above a session, itself included.
pub const SESSION_DEPTH_MAX: u32 = 32;
/// Leaves of a session tree whose root is stored.
pub const SESSION_CHUNK_LEAVES: u64 = 1_024;
/// Longest life of a command, in nanoseconds: 24 hours.
pub const COMMAND_LIFE_MAX_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Distance of observed and committed time that is marked with a finding, in nanoseconds: one hour.
pub const OBSERVED_GAP_MAX_NS: u64 = 3_600 * 1_000_000_000;
/// Events that a collector may append in an hour when its registration names no number.
pub const EVENTS_PER_HOUR_DEFAULT: u64 = 3_600_000;
/// Sessions that a collector may open in an hour when its registration names no number.
pub const SESSIONS_PER_HOUR_DEFAULT: u64 = 100_000;
/// Bytes of payloads that the events of a collector may commit to in an hour when its registration names no number: 16 GiB.
pub const PAYLOAD_BYTES_PER_HOUR_DEFAULT: u64 = 16 << 30;
/// Targets of one containment: what was asked for, and what shares its identity.
pub const CONTAINMENT_TARGETS_MAX: usize = 256;
/// Containments that one target can be under at once.
pub const CONTAINMENT_CASES_MAX: usize = 64;
/// Credentials, and agent instances, of one session that are remembered.
pub const SESSION_USES_MAX: usize = 16;
/// Sessions that are remembered to have spawned one session.
pub const SPAWNERS_MAX: usize = 4;
/// Sessions that are looked at above one event.
pub const SESSIONS_ABOVE_MAX: usize = 128;
/// Longest reason of a containment or a release, in bytes.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Where counters stop, so that sums of them in a rule cannot overflow: 2^53.
pub const COUNT_MAX: u64 = 1 << 53;
/// Members of one set of a session.
pub const SESSION_SET_MAX: u64 = 4_096;
/// Resources and systems that one event enters into the sets of its session and of those above it.
pub const MEMBERS_PER_EVENT_MAX: usize = 128;
/// Findings of rules in one entry: the gravest.
pub const FINDINGS_MAX: usize = 40;
/// Bytes of facts that are kept beside the log; larger ones come out of a replay.
pub const FACTS_KEPT_BYTES_MAX: usize = 4_096;
/// Resources, tools, servers and credentials of one agent that are remembered, over all its sessions.
pub const AGENT_SET_MAX: u64 = 65_536;
/// Tools, servers, tags and refused actions of one session that are remembered.
pub const SESSION_LIST_MAX: usize = 64;
/// Longest life of a credential that is not called standing, in seconds: 12 hours.
pub const STANDING_CREDENTIAL_S: u64 = 12 * 3_600;
/// Definitions of one tool that can be pinned at once.
pub const TOOL_PINS_MAX: usize = 16;
/// Most rules of a rule set.
pub const RULES_MAX: usize = 200;
/// Longest rule set, in bytes: it stands in its entry as a whole.
pub const RULES_BYTES_MAX: usize = 48 * 1_024;
/// Longest rule, in bytes, comments apart: what can be read without a stack beyond bounds.
pub const RULE_BYTES_MAX: usize = 4_096;
/// Deepest nesting of the conditions of a rule.
pub const RULE_DEPTH_MAX: usize = 32;
/// The only apply version of this build.
pub const APPLY_VERSION: u32 = 1;
/// Longest URL of an outlet, in bytes.
pub const URL_BYTES_MAX: usize = 1_024;
/// Longest id of an outlet or of its key, in bytes: they are names of files.
pub const OUTLET_ID_BYTES_MAX: usize = 64;
/// Outlets that can be registered.
pub const OUTLETS_MAX: usize = 64;
/// Messages of one outlet that may wait. What comes beyond is counted, not kept.
pub const OUTBOX_MAX: u64 = 4_096;
/// Messages behind which a stream is not verified.
pub const VERIFIED_BEHIND_MAX: u64 = 16;
/// Longest time after which an outlet may escalate, in seconds: a day.
pub const ESCALATE_AFTER_MAX_S: u32 = 86_400;
/// Longest state of a verification event, in bytes.
pub const VERIFICATION_STATE_BYTES_MAX: usize = 256;
/// Longest error code of a delivery, in bytes.
pub const DELIVERY_ERROR_BYTES_MAX: usize = 64;
/// Tenants without an old enough intent that one page of unresolved intents skips.
pub const TENANTS_SKIPPED_MAX: usize = 256;
/// Agents that one page of agents in one state looks at.
pub const LOOKED_AT_MAX: usize = 1_000;
/// Keys that a question can begin with.
pub const LINEAGE_STARTS_MAX: usize = 64;
/// Steps that a question can go.
pub const LINEAGE_DEPTH_MAX: u32 = 32;
/// Keys, once for each direction, that one answer can lead to.
pub const LINEAGE_STATES_MAX: usize = 100_000;
/// Longest name of a reader, and longest purpose of reading, in bytes.
pub const ACCESS_TEXT_BYTES_MAX: usize = 256;
/// Longest payload, in bytes: 1 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Subjects that the payloads of one event can be of.
pub const SUBJECTS_PER_EVENT_MAX: usize = 8;
/// What the payloads of one subject stand under, as far as an erasure looks while holds are in force.
pub const SUBJECT_TIES_MAX: usize = 4_096;
/// Holds of one tenant that an erasure looks at.
pub const HOLDS_LOOKED_AT_MAX: usize = 4_096;
/// Shortest retention of payloads, in days: six months.
pub const RETENTION_FLOOR_DAYS: u32 = 183;
/// Longest retention of payloads, in days.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// Longest recorded question, in bytes.
pub const ACCESS_QUESTION_BYTES_MAX: usize = 16 * 1_024;
