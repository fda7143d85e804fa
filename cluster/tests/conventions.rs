//! What holds of the whole workspace: who may depend on whom, how long files and functions are, what nothing is called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Each package and what it may use of this workspace; after the bar, in tests only.
const EDGES: [(&str, &[&str], &[&str]); 11] = [
    ("proofline-proto", &[], &[]),
    ("proofline-ledger", &["proofline-proto"], &["proofline-verifier"]),
    ("proofline-verifier", &["proofline-proto"], &[]),
    ("proofline-node", &["proofline-ledger", "proofline-proto", "proofline-verifier"], &[]),
    ("proofline-client", &["proofline-proto", "proofline-verifier"], &[]),
    ("proofline", &["proofline-client", "proofline-ledger", "proofline-proto", "proofline-verifier"], &[]),
    ("proofline-cluster", ABOVE, ABOVE),
    ("proofline-jepsen", ABOVE, ABOVE),
    ("proofline-benches", ABOVE, ABOVE),
    // The same sources with bugs that can be chosen: nothing that is shipped may use them.
    ("proofline-ledger-planted", &["proofline-proto"], &[]),
    ("proofline-node-planted", &["proofline-ledger-planted", "proofline-proto", "proofline-verifier"], &[]),
];
/// What the name of a package with planted bugs ends with.
const PLANTED: &str = "-planted";
const ABOVE: &[&str] =
    &["proofline-client", "proofline-cluster", "proofline-ledger", "proofline-node", "proofline-proto", "proofline-verifier"];

/// What `proofline-verify` links, by name: the list is part of the product's argument.
const VERIFIER_DIRECT: [&str; 9] =
    ["base64", "blake3", "ed25519-dalek", "flate2", "proofline-proto", "prost", "serde_json", "sha2", "thiserror"];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const FORBIDDEN_SUFFIXES: [&str; 5] = ["Manager", "Handler", "Helper", "Util", "Service"];
const FORBIDDEN_FILES: [&str; 5] = ["utils.rs", "util.rs", "common.rs", "types.rs", "helpers.rs"];

fn root() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().to_owned()
}

struct Package {
    name: String,
    /// Where its manifest lies.
    directory: PathBuf,
    uses: BTreeSet<(String, bool, bool)>,
    features: BTreeSet<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root()).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| Package {
            name: package["name"].as_str().unwrap().to_owned(),
            directory: Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned(),
            uses: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|it| it["kind"] != "build")
                .map(|it| (it["name"].as_str().unwrap().to_owned(), it["kind"] == "dev", it["optional"] == true))
                .collect(),
            features: package["features"].as_object().unwrap().keys().cloned().collect(),
        })
        .collect()
}

#[test]
fn packages_depend_only_in_the_direction_of_the_architecture() {
    let allowed: BTreeMap<_, _> = EDGES.iter().map(|(name, uses, tests)| (*name, (*uses, *tests))).collect();
    let packages = packages();
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, allowed.keys().copied().collect(), "a package is missing from this table, or from the workspace");
    for package in &packages {
        let (uses, tests) = allowed[package.name.as_str()];
        for (name, is_dev, _) in package.uses.iter().filter(|(name, ..)| names.contains(name.as_str())) {
            let is_allowed = uses.contains(&name.as_str()) || (*is_dev && tests.contains(&name.as_str()));
            assert!(is_allowed, "{} may not depend on {name}", package.name);
        }
    }
}

#[test]
fn the_verifier_library_stays_small() {
    let packages = packages();
    let verifier = packages.iter().find(|package| package.name == "proofline-verifier").unwrap();
    let direct: Vec<&str> =
        verifier.uses.iter().filter(|(_, is_dev, is_optional)| !is_dev && !is_optional).map(|it| it.0.as_str()).collect();
    assert_eq!(direct, VERIFIER_DIRECT);
}

#[test]
fn every_dependency_is_named_in_the_code_that_asks_for_it() {
    let (sources, mut unused) = (sources(), Vec::new());
    // Stubs are generated and name what they need; measurements are not shipped.
    let has_own_sources =
        |package: &&Package| !["proofline-proto", "proofline-benches"].contains(&package.name.as_str()) && !package.name.ends_with(PLANTED);
    for package in packages().iter().filter(has_own_sources) {
        let own = sources.iter().filter(|path| path.starts_with(&package.directory));
        let text: String = own.map(|path| fs::read_to_string(path).unwrap()).collect();
        let words: BTreeSet<&str> = text.split(|it: char| !it.is_alphanumeric() && it != '_').collect();
        let missing = package.uses.iter().filter(|(name, ..)| !words.contains(name.replace('-', "_").as_str()));
        unused.extend(missing.map(|(name, ..)| format!("{} of {}", name, package.name)));
    }
    assert!(unused.is_empty(), "dependencies that nothing uses: {unused:?}");
}

#[test]
fn bugs_are_planted_in_packages_that_are_the_shipped_ones_otherwise() {
    let packages = packages();
    let uses = |package: &Package| -> BTreeSet<String> {
        package.uses.iter().filter(|(_, is_dev, _)| !is_dev).map(|(name, ..)| name.trim_end_matches(PLANTED).to_owned()).collect()
    };
    let (planted, shipped): (Vec<_>, Vec<_>) = packages.iter().partition(|package| package.name.ends_with(PLANTED));
    assert_eq!(planted.len(), 2);
    for package in planted {
        let of = shipped.iter().find(|shipped| shipped.name == package.name.trim_end_matches(PLANTED)).unwrap();
        assert_eq!(uses(package), uses(of), "{} has other dependencies than {}", package.name, of.name);
    }
    for package in shipped {
        assert!(!package.features.contains("planted"), "{} could be built with bugs", package.name);
    }
}

/// What nodes say to each other only.
const BETWEEN_NODES: [&str; 4] = ["CHECKPOINT_NOT_COSIGNED", "NOT_A_MEMBER", "NOT_COSIGNED", "NOT_YET_COSIGNED"];

#[test]
fn the_client_library_names_every_reason_that_a_node_gives() {
    let named = reasons(&fs::read_to_string(root().join("client/lib/src/refusal.rs")).unwrap());
    let of_nodes = sources().into_iter().filter(|path| path.starts_with(root().join("node/src/rpc")));
    let given: BTreeSet<String> = of_nodes.flat_map(|path| reasons(&fs::read_to_string(path).unwrap())).collect();
    assert!(given.contains("NO_LEADER") && given.len() > 40, "the reasons are found: {given:?}");
    let unnamed: Vec<_> = given.iter().filter(|reason| !named.contains(*reason) && !BETWEEN_NODES.contains(&reason.as_str())).collect();
    assert!(unnamed.is_empty(), "reasons without a name: {unnamed:?}");
}

#[test]
fn whoever_runs_nodes_finds_every_reason_in_the_book() {
    let book = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let named = reasons(&fs::read_to_string(root().join("client/lib/src/refusal.rs")).unwrap());
    let missing: Vec<_> = named.iter().filter(|reason| *reason != "UNNAMED" && !book.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty() && named.len() > 40, "reasons that OPERATIONS.md does not name: {missing:?}");
}

/// Finds the string literals in a source that are reasons of refusals.
fn reasons(source: &str) -> BTreeSet<String> {
    let is_reason =
        |text: &&str| text.len() > 4 && text.chars().all(|it| it.is_ascii_uppercase() || it == '_') && !text.starts_with("CARGO");
    source.split('"').skip(1).step_by(2).filter(is_reason).map(str::to_owned).collect()
}

fn sources() -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]).current_dir(root()).output();
    let listed = String::from_utf8(output.unwrap().stdout).unwrap();
    listed.lines().map(|line| root().join(line)).filter(|path| path.is_file()).collect()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| ["tests", "benches", "vectors"].contains(&part.as_os_str().to_str().unwrap()))
        && !path.strip_prefix(root()).unwrap().starts_with("benches/src")
}

/// The code of a file without its unit tests, which stand at the end.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

#[test]
fn files_are_short() {
    for path in sources().iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).unwrap();
        let lines = code(&text).lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines, {FILE_LINES_MAX} are the limit", path.display());
    }
}

#[test]
fn functions_are_short() {
    for path in sources().iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = code(&text).lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let signature = line.trim_start();
            let indent = line.len() - signature.len();
            let words: Vec<&str> = signature.split(' ').take_while(|word| !word.contains('(') || word.starts_with("pub(")).collect();
            let is_function = words.contains(&"fn") && words.iter().all(|word| is_function_word(word));
            if !is_function || line.ends_with(';') || line.ends_with('}') {
                continue;
            }
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| **line == closing).map_or(0, |end| end + 1);
            assert!(length <= FUNCTION_LINES_MAX, "{}:{} is a function of {length} lines", path.display(), start + 1);
        }
    }
}

fn is_function_word(word: &str) -> bool {
    ["pub", "pub(crate)", "pub(super)", "const", "async", "fn"].contains(&word)
}

#[test]
fn names_say_what_things_are() {
    for path in sources().iter().filter(|path| !is_test(path)) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!FORBIDDEN_FILES.contains(&name), "{} is called after nothing", path.display());
        assert!(name != "mod.rs", "{}: a module is foo.rs beside foo/", path.display());
        for line in fs::read_to_string(path).unwrap().lines() {
            let declared = ["struct ", "enum ", "trait "].iter().find_map(|kind| {
                let rest = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ").trim_start_matches("pub ");
                rest.strip_prefix(kind)
            });
            let Some(declared) = declared else { continue };
            let name: String = declared.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect();
            assert!(!FORBIDDEN_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)), "{}: {name} says too little", path.display());
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let unfinished = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for mark in unfinished {
            assert!(!text.contains(mark), "{} has {mark}", path.display());
        }
    }
}
