use clap::{CommandFactory as _, Parser as _};

use super::*;

fn parse(line: &str) -> Result<Arguments, String> {
    Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
}

/// The help of a command and all those below it.
fn help(command: &mut clap::Command, path: &str, out: &mut String) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    out.push_str(&format!("=== {path}\n{}\n", command.clone().term_width(110).render_help()));
    let below: Vec<_> = command.get_subcommands().map(|it| it.get_name().to_owned()).filter(|name| name != "help").collect();
    for name in below {
        help(command.find_subcommand_mut(&name).unwrap(), &path, out);
    }
}

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn the_help_is_this() {
    let mut out = String::new();
    help(&mut Arguments::command().mut_args(|argument| argument.hide_env(true)), "", &mut out);
    insta::assert_snapshot!(out);
}

#[test]
fn every_command_that_does_something_has_an_example() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            command.get_subcommands().filter(|it| it.get_name() != "help").for_each(|below| check(below, &path));
        } else {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.contains("proofline "), "{path} has no example");
        }
    }
    check(&Arguments::command(), "");
}

#[test]
fn a_signer_is_an_operator_with_a_file() {
    let arguments = parse("proofline role grant spiffe://a/b auditor --tenant acme --signer alice=keys/a=1.pem").unwrap();
    let Command::Role(RoleCommand::Grant(grant)) = arguments.command else { panic!("another command") };
    assert_eq!(grant.signing.signers, [SignerFile { operator_id: "alice".to_owned(), file: "keys/a=1.pem".into() }]);
    for wrong in ["alice", "=file", "alice="] {
        assert!(parse(&format!("proofline role grant spiffe://a/b auditor --tenant acme --signer {wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn the_session_of_a_blast_radius_is_typed_either_way() {
    for typed in ["proofline blast-radius run-42 --tenant t", "proofline blast-radius --session run-42 --tenant t"] {
        let Command::BlastRadius(arguments) = parse(typed).unwrap().command else { panic!("another command") };
        assert_eq!(arguments.keys().session, ["run-42"], "{typed}");
    }
}

#[test]
fn what_belongs_together_is_asked_for_together() {
    for wrong in [
        "proofline prove --out f",
        "proofline prove --index 1 --session s --tenant t --out f",
        "proofline prove --index 1 --position 2 --out f",
        "proofline verify",
        "proofline verify f --consistency-proof p",
        "proofline collector register c --spiffe-id s --tenant t --signer a=b",
        "proofline collector register c --key k --public-key 00 --spiffe-id s --tenant t --signer a=b",
        "proofline collector register c --public-key 00 --spiffe-id s --tenant t --signer a=b",
        "proofline operator register o --key k --role registrar",
        "proofline append - --collector c --key k --lane 64",
        "proofline blast-radius --tenant t",
        "proofline blast-radius s --session s --tenant t",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    parse("proofline prove --session s --tenant t --position 2 --out f").unwrap();
}

/// The lines of a help text that call this program, in words, without what a shell does with them.
fn examples(text: &str) -> Vec<Vec<String>> {
    let whole = text.replace("\\\n", " ");
    let calls = whole.lines().map(str::trim).filter(|line| line.starts_with("proofline "));
    let typed = |line: &str| [" > ", " <<", " #"].iter().fold(line, |line, ends| line.split(ends).next().unwrap()).to_owned();
    calls.map(|line| words(&typed(line))).collect()
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for it in line.chars() {
        match quote {
            Some(end) if it == end => quote = None,
            Some(_) => word.push(it),
            None if it == '\'' || it == '"' => quote = Some(it),
            None if it == ' ' => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            None => word.push(it),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_example_of_the_help_has_what_the_command_needs() {
    fn check(command: &clap::Command, found: &mut usize) {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for words in examples(&text) {
            *found += 1;
            // Keys and digests are shortened for people.
            if let Err(error) = Arguments::try_parse_from(&words) {
                assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation, "{words:?}: {error}");
            }
        }
        command.get_subcommands().for_each(|below| check(below, found));
    }
    let mut found = 0;
    check(&Arguments::command(), &mut found);
    assert!(found > 50, "{found} examples are found");
}
