//! The commands, each from its arguments to its answer.

mod agent;
mod append;
mod approval;
mod archive;
mod checkpoint;
mod collector;
mod command_file;
mod completions;
mod containment;
mod decision;
mod effect;
mod entry;
mod evidence;
mod genesis;
mod import;
mod incident;
mod keys;
mod lineage;
mod membership;
mod node;
mod operator;
mod outlet;
mod payload;
mod prove;
mod purpose;
mod question;
mod replay;
mod review;
mod role;
mod rules;
mod session;
mod signing;
mod status;
mod summary;
mod tail;
mod tool;
mod verify;

use anyhow::Result;

use crate::{
    arguments::{Arguments, Command, ImportCommand},
    connection::Connection,
    output::Answer,
};

/// Runs a command.
pub(crate) async fn run(arguments: Arguments) -> Result<Answer> {
    let Arguments { global, command } = arguments;
    let connect = || Connection::new(&global);
    match command {
        Command::Keys(it) => keys::run(it),
        Command::Verify(it) => verify::run(&it, &global),
        Command::Genesis(it) => genesis::run(it),
        Command::Signed(it) => command_file::run(it, connect).await,
        Command::Node(it) => node::run(it, &connect()?).await,
        Command::Membership(it) => membership::run(it, &connect()?).await,
        Command::Completions { shell } => completions::run(shell),
        Command::Collector(it) => collector::run(it, &connect()?).await,
        Command::Agent(it) => agent::run(it, &connect()?).await,
        Command::Operator(it) => operator::run(it, &connect()?).await,
        Command::Role(it) => role::run(it, &connect()?).await,
        Command::Contain(it) => containment::contain(it, &connect()?).await,
        Command::Containment(it) => containment::run(it, &connect()?, global.output).await,
        Command::Outlet(it) => outlet::run(it, connect).await,
        Command::Rules(it) => rules::run(it, connect).await,
        Command::Decision(it) => decision::run(it, connect).await,
        Command::Approval(it) => approval::run(it, &connect()?).await,
        Command::Unresolved(it) => approval::unresolved(it, &connect()?).await,
        Command::Incident(it) => incident::run(it, &connect()?).await,
        Command::Hold(it) => incident::hold(it, &connect()?).await,
        Command::Payload(it) => payload::run(it, connect).await,
        Command::Retention(it) => payload::retention(it, &connect()?).await,
        Command::Purpose(it) => purpose::purpose(it, &connect()?).await,
        Command::Server(it) => purpose::server(it, &connect()?).await,
        Command::Tool(it) => tool::run(it, &connect()?).await,
        Command::Append(it) => append::run(it, &connect()?).await,
        Command::Import(ImportCommand::Otlp(it)) => import::run(it, &connect()?).await,
        Command::Session(it) => session::run(it, &connect()?).await,
        Command::Entry(it) => entry::run(&it, &connect()?).await,
        Command::Lineage(it) => lineage::run(it, &connect()?, global.output).await,
        Command::BlastRadius(it) => lineage::blast_radius(it, &connect()?).await,
        Command::Review(it) => review::run(it, &connect()?).await,
        Command::Evidence(it) => evidence::run(it, connect).await,
        Command::Prove(it) => prove::run(it, &connect()?).await,
        Command::Checkpoint { out } => checkpoint::run(out.as_deref(), &connect()?).await,
        Command::Status => status::run(&connect()?).await,
        Command::Tail(it) => tail::run(it, &connect()?, global.output).await,
        Command::Archive(it) => archive::run(&it, &connect()?).await,
        Command::ArchiveCheck(it) => archive::check(&it, &global),
        Command::Replay(it) => replay::run(&it, &global, connect).await,
    }
}
