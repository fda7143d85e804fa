//! The shipped rule packs, played through the command line tool: no cluster, a ledger in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proofline_cluster::Binaries;
use serde_json::Value;

const PACKS: [(&str, &str); 2] = [("proofline.cedar", "scenarios"), ("airline.cedar", "scenarios-airline")];

fn rules() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../client/rules")
}

fn scenarios(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(rules().join(directory)).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

fn proofline(arguments: &[&str], files: &[PathBuf]) -> Value {
    let mut command = Command::new(Binaries::beside_current().unwrap().path("proofline"));
    let output = command.args(["--output", "json"]).args(arguments).args(files).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_scenarios_of_every_pack_end_as_they_say() {
    for (pack, directory) in PACKS {
        let pack = rules().join(pack);
        let played = proofline(&["rules", "test", pack.to_str().unwrap()], &scenarios(directory));
        assert_eq!(played["failed"], 0, "{played}");
    }
}

#[test]
fn every_rule_has_a_scenario_that_fires_it_and_one_that_does_not() {
    for (pack, directory) in PACKS {
        let checked = proofline(&["rules", "check"], &[rules().join(pack)]);
        let rules = checked["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap().to_owned());
        let files = scenarios(directory);
        let played = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(rules.collect::<BTreeSet<_>>(), files.iter().map(played).collect(), "{pack}");
        for file in &files {
            let scenarios: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
            let rule = Value::from(played(file)).to_string();
            // What is seen for the first time has been found when it stays quiet.
            let ends_with_it = |it: &Value| it["steps"].as_array().unwrap().last().unwrap()["findings"].to_string().contains(&rule);
            let has_it = |it: &Value| it["steps"].to_string().contains(&rule);
            assert!(scenarios.iter().any(has_it) && !scenarios.iter().all(ends_with_it), "{}", file.display());
        }
    }
}
