//! The chain that a command appends to: key, journal, collector.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use proofline_client::{Collector, LaneName, LaneSigner, read_key};

use crate::{arguments::LaneArguments, connection::Connection, file_name::file_name};

impl LaneArguments {
    /// Returns the directory that holds the journals.
    pub(crate) fn journals(&self, connection: &Connection) -> PathBuf {
        self.journals.clone().unwrap_or_else(|| connection.beside_profile("journals"))
    }

    /// Opens the collector of the lane. Nothing is sent yet.
    pub(crate) fn open(&self, connection: &Connection) -> Result<Collector> {
        let name = LaneName { origin: connection.profile.origin.clone(), collector_id: self.collector.clone(), lane: self.lane };
        let directory = self.journals(connection).join(file_name(&self.collector)).join(format!("lane-{}", self.lane));
        let key = Arc::new(read_key(&self.key)?);
        let signer = LaneSigner::new(name, key);
        Collector::open(connection.client.clone(), signer, &directory)
            .with_context(|| format!("the journal of collector {:?}, lane {}", self.collector, self.lane))
    }
}
