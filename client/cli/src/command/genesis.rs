//! `proofline genesis`

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use proofline_client::{Existing, policy_of, write_file};
use proofline_ledger::{check_genesis, limits::APPLY_VERSION};
use proofline_proto::v1;
use proofline_verifier::{decode_canonical, escape_json};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    arguments::GenesisCommand,
    form,
    output::{Answer, facts},
};

/// What a person plans, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    origin: String,
    log_public_key: String,
    operators: Vec<Operator>,
    nodes: Vec<Node>,
    #[serde(default)]
    grants: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operator {
    id: String,
    public_key: String,
    roles: Vec<OperatorRole>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OperatorRole {
    Registrar,
    Responder,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    id: u64,
    name: String,
    public_key: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grant {
    spiffe_id: String,
    role: Role,
    tenant: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Auditor,
    Responder,
    Operator,
}

pub(super) fn run(command: GenesisCommand) -> Result<Answer> {
    match command {
        GenesisCommand::Create { plan, out, policy } => create(&plan, &out, policy.as_deref()),
        GenesisCommand::Show { file } => {
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            let genesis: v1::Genesis = decode_canonical("Genesis", &bytes).with_context(|| file.display().to_string())?;
            check_genesis(&genesis).with_context(|| file.display().to_string())?;
            show(&genesis, &file)
        }
    }
}

fn create(plan: &Path, out: &Path, policy: Option<&Path>) -> Result<Answer> {
    let text = fs::read_to_string(plan).with_context(|| plan.display().to_string())?;
    let genesis = genesis(toml::from_str(&text).with_context(|| plan.display().to_string())?)?;
    // The ledger's own judgement: a node would find the same out only at its first start.
    check_genesis(&genesis)?;
    let of_auditors = policy_of(&genesis)?.encode();
    check_callers(&genesis)?;
    write_new(out, &genesis.encode_to_vec())?;
    policy.map_or(Ok(()), |path| write_new(path, of_auditors.as_bytes()))?;
    show(&genesis, out)
}

fn genesis(plan: Plan) -> Result<v1::Genesis> {
    let operator = |it: Operator| -> Result<v1::OperatorKey> {
        let public_key = public_key(&it.public_key).with_context(|| format!("operator {:?}", it.id))?;
        Ok(v1::OperatorKey {
            operator_id: it.id,
            public_key,
            roles: it.roles.into_iter().map(|role| role.of_contract().into()).collect(),
            ..Default::default()
        })
    };
    let node = |it: Node| -> Result<v1::NodeKey> {
        let public_key = public_key(&it.public_key).with_context(|| format!("node {:?}", it.name))?;
        Ok(v1::NodeKey { node_id: it.id, name: it.name, public_key })
    };
    let grant = |it: Grant| v1::RoleGrant { spiffe_id: it.spiffe_id, role: it.role.of_contract().into(), tenant_id: it.tenant };
    Ok(v1::Genesis {
        origin: plan.origin,
        apply_version: APPLY_VERSION,
        log_public_key: public_key(&plan.log_public_key).context("log_public_key")?,
        operators: plan.operators.into_iter().map(operator).collect::<Result<_>>()?,
        nodes: plan.nodes.into_iter().map(node).collect::<Result<_>>()?,
        grants: plan.grants.into_iter().map(grant).collect(),
    })
}

fn public_key(text: &str) -> Result<Vec<u8>> {
    let bytes = hex::decode(text)?;
    if bytes.len() == 32 { Ok(bytes) } else { bail!("an Ed25519 public key has 32 bytes: 64 hex digits") }
}

/// A ledger to which nobody may submit a command could never be changed.
fn check_callers(genesis: &v1::Genesis) -> Result<()> {
    let is_operator = |grant: &v1::RoleGrant| grant.role() == v1::Role::Operator && grant.tenant_id == "*";
    if !genesis.grants.iter().any(is_operator) {
        bail!("no grant gives the role operator for tenant \"*\": nobody could submit a command");
    }
    Ok(())
}

pub(super) fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    write_file(path, content, Existing::Kept).with_context(|| path.display().to_string())
}

fn show(genesis: &v1::Genesis, file: &Path) -> Result<Answer> {
    let sha256 = hex::encode(Sha256::digest(genesis.encode_to_vec()));
    let responders = genesis.operators.iter().filter(|operator| operator.roles.contains(&v1::OperatorRole::Responder.into())).count();
    let mut text = facts([
        ("file", file.display().to_string()),
        ("SHA-256", sha256.clone()),
        ("origin", genesis.origin.clone()),
        ("operators", genesis.operators.len().to_string()),
        ("may seal", if responders == 0 { "nobody, until a responder is registered".to_owned() } else { responders.to_string() }),
        ("nodes", genesis.nodes.len().to_string()),
    ]);
    let whole: Value = form::to_json("Genesis", genesis)?;
    text.push_str(&format!("\n{}\n", escape_json(&serde_json::to_string_pretty(&whole)?)));
    let json = json!({ "file": file.display().to_string(), "sha256": sha256, "genesis": whole });
    Ok(Answer::new("proofline.genesis/v1", json, text))
}

impl OperatorRole {
    fn of_contract(self) -> v1::OperatorRole {
        match self {
            Self::Registrar => v1::OperatorRole::Registrar,
            Self::Responder => v1::OperatorRole::Responder,
        }
    }
}

impl Role {
    fn of_contract(self) -> v1::Role {
        match self {
            Self::Auditor => v1::Role::Auditor,
            Self::Responder => v1::Role::Responder,
            Self::Operator => v1::Role::Operator,
        }
    }
}

#[cfg(test)]
mod tests;
