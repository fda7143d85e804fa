//! `proofline-node-planted`: the shipped node's own program, with one bug that the environment names. For tests of the harness.

extern crate proofline_node_planted as proofline_node;

use std::process::ExitCode;

use proofline_ledger::planted;

#[path = "../../../../node/src/main.rs"]
mod shipped;

fn main() -> ExitCode {
    match planted::choose() {
        Ok(bug) => {
            let bug = bug.map_or_else(|| planted::NONE.to_owned(), |bug| format!("{bug:?}"));
            eprintln!("############################################################################");
            eprintln!("# NOT FOR USE: this program has a bug, on purpose: {bug}");
            eprintln!("# It tests the harness. Never give it anything that matters.");
            eprintln!("############################################################################");
            shipped::main()
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
