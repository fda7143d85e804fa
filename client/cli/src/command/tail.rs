//! `proofline tail`

use anyhow::Result;
use proofline_client::{EntryReader, Reading};
use proofline_verifier::{EntryIndex, escape};
use serde_json::Value;

use crate::{
    arguments::{OutputFormat, TailArguments},
    connection::Connection,
    describe::{Described, ENTRY_SCHEMA},
    output::{Answer, Layout, print_json, print_text},
};

/// Entries before the end that are shown when nothing else is asked for.
const ENTRIES_SHOWN: u64 = 10;

pub(super) async fn run(arguments: TailArguments, connection: &Connection, format: OutputFormat) -> Result<Answer> {
    // Also where it is not needed to begin: a log that is not the one of before is not shown as if it were.
    let size = connection.checked_checkpoint().await?.checkpoint.size.0;
    let from = arguments.from.unwrap_or(size.saturating_sub(ENTRIES_SHOWN));
    let reading = if arguments.once { Reading::Published } else { Reading::Follow };
    let mut entries = EntryReader::new(connection.client.clone(), EntryIndex(from), reading);
    let mut shown = 0_u64;
    while let Some(run) = entries.next().await? {
        for bytes in run.entries {
            let entry = Described::new(&bytes)?;
            if arguments.session.as_deref().is_some_and(|session| entry.session_id() != Some(session)) {
                continue;
            }
            shown += 1;
            match format {
                OutputFormat::Table => print_text(&entry.line())?,
                OutputFormat::Json => print_json(ENTRY_SCHEMA, &entry.json()?, Layout::Line)?,
            }
        }
    }
    // Silence would look like an answer about the whole log.
    if shown == 0 {
        let of = arguments.session.map_or_else(String::new, |session| format!(" of session {session}"));
        anstream::eprintln!("{}", escape(&format!("no entry{of} from entry {from} on, up to {size}; --from says where to begin")));
    }
    Ok(Answer::printed())
}

impl Answer {
    /// Everything was printed already.
    fn printed() -> Self {
        Self::new("", Value::Null, String::new())
    }
}
