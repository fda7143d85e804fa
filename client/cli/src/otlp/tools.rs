//! What the tools of an agent do: a file that says for each tool which verb it is, what it touches, whose that is, and what
//! of its arguments and results a rule may know.
//!
//! Always true: arguments and results do not enter an event, except for the single values that the file names; users enter
//! as the subjects that they are as initiators. A result that is no JSON tells nothing.

mod form;
mod place;
mod reading;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use form::Tool;
pub(super) use reading::Reading;

/// Why a file is no tool map.
#[derive(Debug, Error)]
pub(crate) enum ToolMapError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is no tool map: {source}")]
    Form { path: PathBuf, source: Box<toml::de::Error> },
}

/// The tools that are known, by name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolMap {
    #[serde(default)]
    tool: BTreeMap<String, Tool>,
}

impl ToolMap {
    /// Reads a map.
    ///
    /// # Errors
    /// The file, or the line and what is wrong with it.
    pub(crate) fn load(path: &Path) -> Result<Self, ToolMapError> {
        let text = fs::read_to_string(path).map_err(|source| ToolMapError::File { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|source| ToolMapError::Form { path: path.to_owned(), source: Box::new(source) })
    }

    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}
