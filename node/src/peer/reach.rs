//! Whether a peer is reached: said once when it is lost, and once when it is back. Raft's library says it with every try.

use std::{error::Error, fmt};

use tonic::Status;

/// What is known of one peer by the calls to it, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    node: u64,
    address: String,
    is_asked: bool,
    is_lost: bool,
}

impl Reach {
    /// Begins with a peer that is taken to be there.
    pub(super) fn new(node: u64, address: String) -> Self {
        Self { node, address, is_asked: false, is_lost: false }
    }

    /// A call begins. When the one before did not end, whoever made it waited no longer.
    pub(super) fn ask(&mut self) {
        if self.is_asked {
            self.lost(&"no answer in time");
        }
        self.is_asked = true;
    }

    /// The peer answered.
    pub(super) fn answered(&mut self) {
        if self.is_found() {
            tracing::info!(node = self.node, address = self.address, "a node is reached again");
        }
    }

    /// The call failed.
    pub(super) fn lost(&mut self, reason: &dyn fmt::Display) {
        if self.is_news() {
            tracing::warn!(node = self.node, address = self.address, %reason, "a node is not reached; said again only when it is");
        }
    }

    fn is_found(&mut self) -> bool {
        self.is_asked = false;
        std::mem::replace(&mut self.is_lost, false)
    }

    fn is_news(&mut self) -> bool {
        self.is_asked = false;
        !std::mem::replace(&mut self.is_lost, true)
    }
}

/// The innermost error says what happened; those around it say that something did.
pub(super) fn root_cause(status: &Status) -> String {
    let mut cause: Option<&dyn Error> = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_lost_once_and_found_once() {
        let mut reach = Reach::new(2, "node-2:7400".to_owned());
        assert!(!reach.is_found(), "it was never lost");
        assert_eq!(
            [reach.is_news(), reach.is_news(), reach.is_found(), reach.is_found(), reach.is_news()],
            [true, false, true, false, true]
        );
    }

    #[test]
    fn a_call_that_nobody_waited_for_was_not_answered() {
        let mut reach = Reach::new(2, "node-2:7400".to_owned());
        reach.ask();
        reach.answered();
        reach.ask();
        assert!(!reach.is_lost, "every call so far was answered");
        reach.ask();
        assert!(reach.is_lost, "the second was not");
        reach.answered();
        reach.ask();
        assert!(!reach.is_lost);
    }
}
