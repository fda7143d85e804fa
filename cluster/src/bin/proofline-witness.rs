//! `proofline-witness`: a small witness for logs that speak C2SP tlog-witness.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use proofline_client::read_key;
use proofline_cluster::witness::{Witness, serve};
use tokio::net::TcpListener;

#[derive(Debug, Parser)]
#[command(
    name = "proofline-witness",
    version,
    about = "Cosigns the checkpoints of logs, each only when it extends what was cosigned before",
    after_help = "Example:\n  proofline keys generate witness.key.pem\n  proofline-witness --policy cluster.policy --name witness.example/w1 --key witness.key.pem --data witness --listen 127.0.0.1:7900\n\nIt prints its verifier key: nodes name it under [[witnesses]], auditors in their policy. Keep the data directory: a witness\nwithout its memory would cosign another history. It speaks HTTP without TLS, so it listens on loopback alone; put whatever ends TLS\nbefore it."
)]
struct Arguments {
    /// tlog-policy file that names the logs to cosign for
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Name of the witness, as in its verifier key
    #[arg(long)]
    name: String,
    /// Ed25519 private key, PKCS#8 PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Directory that remembers what was cosigned
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:7900")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proofline-witness: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(of: Arguments) -> Result<()> {
    ensure!(of.listen.ip().is_loopback(), "{} is not a loopback address; there is no TLS here", of.listen);
    let policy = fs::read(&of.policy).with_context(|| of.policy.display().to_string())?;
    let key = read_key(&of.key)?;
    let witness = Witness::open(&policy, &of.name, key, &of.data)?;
    let listener = TcpListener::bind(of.listen).await.with_context(|| of.listen.to_string())?;
    println!("{}", witness.verifier_key());
    eprintln!("listening on http://{}/", listener.local_addr()?);
    tokio::select! {
        served = serve(Arc::new(witness), listener) => Ok(served?),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}
