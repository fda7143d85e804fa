//! `proofline completions`

use anyhow::Result;
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use serde_json::json;

use crate::{arguments::Arguments, output::Answer};

pub(super) fn run(shell: Shell) -> Result<Answer> {
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "proofline", &mut script);
    let script = String::from_utf8(script)?;
    Ok(Answer::new("proofline.completions/v1", json!({ "script": script }), script))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_commands_of_the_second_level() {
        for shell in Shell::value_variants() {
            let script = run(*shell).unwrap().text;
            for word in ["proofline", "containment", "release"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
