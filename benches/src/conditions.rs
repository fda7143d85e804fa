//! What the figures were measured on.

use std::{
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

/// The machine and its disk.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Conditions {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// 4 KiB appended and `fdatasync`ed, one after the other.
    pub(crate) fsyncs_per_second: u64,
    pub(crate) fsync_p50_ms: f64,
    pub(crate) fsync_p99_ms: f64,
    pub(crate) event_bytes: usize,
    pub(crate) version: String,
}

pub(crate) fn measure(data: &Path) -> Result<Conditions> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = meminfo.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let fsyncs = fsyncs(data, Duration::from_secs(2))?;
    Ok(Conditions {
        cpu: cpu.trim_start_matches([' ', '\t', ':']).to_owned(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_gib: kib >> 20,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        fsyncs_per_second: fsyncs.events() / 2,
        fsync_p50_ms: fsyncs.p50_ms(),
        fsync_p99_ms: fsyncs.p99_ms(),
        event_bytes: crate::events::Template::new("session-000").len(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn fsyncs(data: &Path, over: Duration) -> Result<crate::latency::Tally> {
    fs::create_dir_all(data)?;
    let path = data.join("fsync-probe");
    let mut file = fs::File::create(&path)?;
    let mut tally = crate::latency::Tally::new();
    let started = Instant::now();
    while started.elapsed() < over {
        let one = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        tally.add(one.elapsed(), 1);
    }
    fs::remove_file(path)?;
    Ok(tally)
}
