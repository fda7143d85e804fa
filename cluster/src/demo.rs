//! The demonstration: an incident goes in, its evidence comes out, and a forged copy is caught without any network.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use proofline_client::{
    Client, Collector, LaneName, LaneSigner, Profile, RetryPolicy, SessionName, Signatory, SourceEvent, generate_key, read_key,
    sign_command,
};
use proofline_cluster::{Binaries, Cluster, ORIGIN, Plan, TENANT, Tls, spiffe};
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::EntryIndex;
use prost::Message as _;
use tokio::process::Command;

use crate::incident::{self, AGENT, CHILD_SESSION, SESSION, Scene};

const COLLECTOR: &str = "mcp-gateway";

pub(crate) async fn run(keep: Option<PathBuf>) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let root = keep.as_deref().unwrap_or(temporary.path());
    let mut demo = Demo::start(root).await?;
    demo.register().await?;
    let last = demo.tell_the_story().await?;
    let seal = demo.stop_the_agent().await?;
    let files = demo.export(last, seal).await?;
    demo.check_offline(&files).await?;
    demo.forge(&files).await?;
    print_line!(
        "\nThat is all: the ledger is stopped, nothing of it is left{}.",
        keep.map_or_else(String::new, |dir| format!(" but {}", dir.display()))
    );
    Ok(())
}

struct Demo {
    cluster: Cluster,
    binaries: Binaries,
    client: Client,
    evidence: PathBuf,
}

/// What an auditor is given.
struct Files {
    session: PathBuf,
    entry: PathBuf,
}

fn step(number: u8, title: &str) {
    print_line!("\n{number}. {title}");
}

fn say(words: &str) {
    print_line!("   {words}");
}

impl Demo {
    async fn start(root: &Path) -> Result<Self> {
        step(1, "Three nodes, each a process with its own key, certificate and disk");
        let binaries = Binaries::beside_current()?;
        let started = Instant::now();
        let cluster = Cluster::found(Plan::create(&root.join("cluster"), 3, Tls::Mutual)?, binaries.clone()).await?;
        let client = connect(&cluster, "admin")?;
        let evidence = root.join("evidence");
        fs::create_dir_all(&evidence)?;
        let mut demo = Self { cluster, binaries, client, evidence };
        let leader = demo.leader().await?;
        say(&format!("ready after {:.1} s; node-{} leads, and any one of the three may fail", started.elapsed().as_secs_f64(), leader + 1));
        Ok(demo)
    }

    async fn leader(&mut self) -> Result<usize> {
        let status = self.client.call(|link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await }).await?;
        self.cluster.plan.nodes.iter().position(|node| node.node_id == status.leader_id).context("nobody leads")
    }

    /// Has an operator's key sign a command, and submits it.
    async fn command(&self, operator: &str, action: Action) -> Result<EntryIndex> {
        let signatory = Signatory { operator_id: operator.to_owned(), key: read_key(&self.cluster.plan.operator_key(operator))? };
        let expires = SystemTime::now() + Duration::from_secs(60);
        Ok(self.client.submit(sign_command(ORIGIN, action, expires, &[signatory])?).await?.index)
    }

    async fn register(&self) -> Result<()> {
        step(2, "Operators register who may write, and which agents exist; every command is signed and is an entry itself");
        let key = generate_key()?;
        proofline_client::write_key(&self.evidence.join("collector.key.pem"), &key)?;
        self.cluster.plan.add_client(COLLECTOR)?;
        let registration = v1::RegisterCollector {
            collector_id: COLLECTOR.to_owned(),
            public_key: key.verifying_key().to_bytes().to_vec(),
            spiffe_id: spiffe(COLLECTOR),
            tenant_id: TENANT.to_owned(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            ..Default::default()
        };
        let index = self.command("alice", Action::RegisterCollector(registration)).await?;
        say(&format!("entry {}: the collector {COLLECTOR}, for tenant {TENANT}, by operator alice", index.0));
        let agent = v1::RegisterAgent {
            tenant_id: TENANT.to_owned(),
            agent_id: AGENT.to_owned(),
            business_owner: "payments".to_owned(),
            technical_owner: "platform-ci".to_owned(),
            revocation_paths: vec!["idp:revoke-session".to_owned()],
            ..Default::default()
        };
        let index = self.command("alice", Action::RegisterAgent(agent)).await?;
        say(&format!("entry {}: the agent {AGENT}, with a business owner, a technical owner and a way to revoke it", index.0));
        self.activate_rule().await
    }

    /// Puts a rule in force with the command line, as two persons would: judged on what the log holds, then signed by both.
    async fn activate_rule(&self) -> Result<()> {
        let (rules, report) = (self.evidence.join("rules.cedar"), self.evidence.join("simulation.json"));
        fs::write(&rules, incident::RULE)?;
        let signer = |operator: &str| format!("{operator}={}", self.cluster.plan.operator_key(operator).display());
        self.proofline(&["rules", "simulate", &text(&rules), "--out", &text(&report)]).await?;
        let activate = ["rules", "activate", &text(&rules), "--simulation", &text(&report), "--reason", "demo"];
        let said = self.proofline(&[&activate[..], &["--signer", &signer("alice"), "--signer", &signer("bob")]].concat()).await?;
        let index = said.get("index").and_then(|index| index.as_str()).context("no index")?;
        say(&format!("entry {index}: a rule, by operators alice and bob: a sub-agent that sends data out on a person's token is revoked"));
        Ok(())
    }

    async fn proofline(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let mut command = Command::new(self.binaries.path("proofline"));
        command.arg("--profile").arg(self.cluster.plan.profile("admin")).args(["--output", "json"]).args(arguments);
        let output = command.kill_on_drop(true).output().await?;
        ensure!(output.status.success(), "proofline {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn collector(&self) -> Result<Collector> {
        let key = Arc::new(read_key(&self.evidence.join("collector.key.pem"))?);
        let lane = LaneName { origin: ORIGIN.to_owned(), collector_id: COLLECTOR.to_owned(), lane: 0 };
        Ok(Collector::open(connect(&self.cluster, COLLECTOR)?, LaneSigner::new(lane, key), &self.evidence.join("journal"))?)
    }

    /// Appends the scenes one by one, and kills the leader in the middle.
    async fn tell_the_story(&mut self) -> Result<EntryIndex> {
        step(3, "02:00. The collector at the tool gateway signs what it sees; the leader is killed with -9 in the middle");
        let mut collector = self.collector()?;
        let mut last = EntryIndex(0);
        for (number, scene) in incident::scenes().iter().enumerate() {
            if number == 5 {
                let leader = self.leader().await?;
                self.cluster.kill(leader)?;
                say(&format!("      --- kill -9: node-{} is gone ---", leader + 1));
            }
            let started = Instant::now();
            last = append(&mut collector, scene).await?;
            if number == 5 {
                let waited = started.elapsed().as_secs_f64();
                say(&format!("      --- acknowledged {waited:.1} s later by the other two ---"));
            }
        }
        self.cluster.start_all().await?;
        say("      --- the killed node is back ---");
        collector.close().await?;
        say("      the helper was stopped by the same commit that records what it tried");
        Ok(last)
    }

    async fn stop_the_agent(&self) -> Result<EntryIndex> {
        step(4, "02:01. Responders act; what the agent does now is recorded and denied, never dropped");
        let target = v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: SESSION.to_owned() };
        let contain = v1::Contain {
            target: Some(target),
            action: v1::ContainmentAction::RevokeSession.into(),
            reason: "exfiltration".to_owned(),
            incident_id: "4711".to_owned(),
        };
        let index = self.command("rita", Action::Contain(contain)).await?;
        say(&format!("entry {}: responder rita contains {SESSION}, and with it everything below", index.0));
        let mut collector = self.collector()?;
        append(&mut collector, &incident::after_containment()).await?;
        collector.close().await?;
        let mut sealed = EntryIndex(0);
        for session_id in [SESSION, CHILD_SESSION] {
            let seal =
                v1::SealSession { tenant_id: TENANT.to_owned(), session_id: session_id.to_owned(), reason: "incident 4711".to_owned() };
            sealed = self.command("rita", Action::SealSession(seal)).await?;
            say(&format!("entry {}: responder rita seals {session_id}; its number of entries is final", sealed.0));
        }
        Ok(sealed)
    }

    /// Exports once the seal is covered by a published checkpoint.
    async fn export(&self, index: EntryIndex, seal: EntryIndex) -> Result<Files> {
        step(5, "Evidence: the helper's whole session in one file, and one entry as a standard tlog-proof");
        self.client.tlog_proof(seal).await?;
        let session = SessionName { tenant_id: TENANT.to_owned(), session_id: CHILD_SESSION.to_owned() };
        let evidence = self.client.session_evidence(&session).await?;
        let files = Files {
            session: self.evidence.join("db-helper.session-evidence"),
            entry: self.evidence.join(format!("entry-{}.tlog-proof", index.0)),
        };
        fs::write(&files.session, evidence.encode_to_vec())?;
        fs::write(&files.entry, self.client.tlog_proof(index).await?.encode())?;
        for file in [&files.session, &files.entry] {
            say(&format!("{} ({} bytes)", file.display(), fs::metadata(file)?.len()));
        }
        Ok(files)
    }

    /// Stops the ledger, so that nobody can say that the check asked it anything.
    async fn check_offline(&mut self, files: &Files) -> Result<()> {
        step(6, "The ledger is stopped. An auditor has the files, a policy file with the public keys, and one program");
        self.cluster.stop_all().await?;
        for file in [&files.session, &files.entry] {
            let (code, report) = self.verify(file).await?;
            print_line!("");
            report.lines().for_each(say);
            ensure!(code == Some(0), "a good file was not verified (exit code {code:?})");
        }
        Ok(())
    }

    async fn forge(&self, files: &Files) -> Result<()> {
        step(7, "Somebody with access to the file changes one byte of what the agent did");
        let mut bytes = fs::read(&files.session)?;
        let at = find(&bytes, b"paste.example").context("the evidence does not name the paste site")?;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x01;
        }
        let forged = self.evidence.join("forged.session-evidence");
        fs::write(&forged, bytes)?;
        let (code, report) = self.verify(&forged).await?;
        print_line!("");
        report.lines().for_each(say);
        if code != Some(3) {
            bail!("the forged file was not proven wrong (exit code {code:?})");
        }
        say("exit code 3: proven wrong");
        Ok(())
    }

    async fn verify(&self, file: &Path) -> Result<(Option<i32>, String)> {
        let output = Command::new(self.binaries.path("proofline-verify"))
            .arg(file)
            .arg("--policy")
            .arg(self.cluster.plan.policy())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run proofline-verify; build the whole workspace")?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code(), report))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn connect(cluster: &Cluster, identity: &str) -> Result<Client> {
    Ok(Client::connect(&Profile::load(&cluster.plan.profile(identity))?, RetryPolicy::default())?)
}

/// Appends one scene and prints what the ledger made of it.
async fn append(collector: &mut Collector, scene: &Scene) -> Result<EntryIndex> {
    let appended = collector.append(vec![SourceEvent { event: incident::encode(&scene.event).into(), source: None }]).await?;
    let receipt = appended.receipts.last().context("no receipt")?;
    let event = receipt.events.first().context("an empty receipt")?;
    let verdict = match event.verdict() {
        v1::Verdict::Allow => "ALLOW",
        v1::Verdict::Deny => "DENY ",
        v1::Verdict::RequireApproval => "REQUIRE_APPROVAL",
        v1::Verdict::StepUp => "STEP_UP",
        v1::Verdict::Unspecified => bail!("the ledger rejected the event: {:?}", event.rejection()),
    };
    let findings: Vec<&str> = event.findings.iter().map(|finding| finding.rule_id.trim_start_matches("built-in/")).collect();
    let findings = if findings.is_empty() { String::new() } else { format!("   [{}]", findings.join(", ")) };
    say(&format!("entry {:>2}  {verdict}  {}{findings}", receipt.first_index, scene.words));
    Ok(EntryIndex(receipt.first_index))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
