//! A question that names no end is about everything that was in the log when it came: it waits until that can be proven here.

use std::time::Duration;

use proofline_ledger::{LineageFault, Reach, TreeSize, reach};
use proofline_proto::v1::LineageQuestion;
use tokio::sync::watch;
use tonic::Status;

use super::{
    Api,
    lineage::{lineage_status, not_recorded},
    status::{again, no_leader, shutting_down},
    submit::Route,
};

/// How long a question waits before it is sent to another node, which may be further: clients give one attempt longer than that.
const COVERED_WITHIN: Duration = Duration::from_secs(4);

impl Api {
    /// Waits until what is committed to and published covers the window of a question.
    ///
    /// # Errors
    /// A status that says how far answers reach when that takes too long, that nobody leads, or that the store failed.
    pub(super) async fn covered(&self, question: &LineageQuestion) -> Result<(), Status> {
        if question.to_index != 0 {
            return Ok(());
        }
        let (mut size, mut covered) = (None, None);
        let covering = async {
            let size = *size.insert(self.log_size().await.map_err(not_recorded)?);
            self.covered_at_last(question, size, &mut covered).await
        };
        match tokio::time::timeout(COVERED_WITHIN, covering).await {
            Ok(done) => done,
            Err(_) => Err(behind(size, covered)),
        }
    }

    /// Returns how many entries the log has now, by the word of whoever leads: this node may have applied fewer.
    async fn log_size(&self) -> Result<TreeSize, Status> {
        let here = self.progress.borrow().tree_size;
        Ok(match self.route().await? {
            Route::Here => here,
            Route::Node(leader) => here.max(TreeSize(self.peers.status(leader).await?.status.unwrap_or_default().tree_size)),
        })
    }

    async fn covered_at_last(&self, question: &LineageQuestion, size: TreeSize, covered: &mut Option<TreeSize>) -> Result<(), Status> {
        waited(&self.progress, |progress| progress.tree_size >= size).await?;
        if question.starts.is_empty() {
            *covered = self.published.borrow().as_ref().map(|published| published.size);
            return waited(&self.published, |it| it.as_ref().is_some_and(|published| published.size >= size)).await;
        }
        let mut answers = self.answers.clone();
        loop {
            answers.mark_unchanged();
            let of = question.clone();
            match self.read_applied(move |state| reach(&state.frozen(), &of, size)).await? {
                Reach::Whole => return Ok(()),
                Reach::Short(short) => *covered = Some(short),
                // Another node may have something: here it can take long.
                Reach::Nothing => return Err(lineage_status(LineageFault::NothingCommitted)),
            }
            answers.changed().await.map_err(|_| ended())?;
        }
    }
}

fn behind(size: Option<TreeSize>, covered: Option<TreeSize>) -> Status {
    let Some(size) = size else { return not_recorded(no_leader("whoever leads does not say how long the log is")) };
    let how_far = match covered {
        Some(covered) => format!("answers reach over {covered}: ask again, or for a window that ends there (to_index, --to)"),
        None => "this node has not applied them: ask again, or another one".to_owned(),
    };
    let seconds = COVERED_WITHIN.as_secs();
    again("COMMITMENT_BEHIND", format!("{size} entries were in the log when this was asked, and after {seconds} s {how_far}"))
}

async fn waited<T>(what: &watch::Receiver<T>, is_there: impl FnMut(&T) -> bool) -> Result<(), Status> {
    what.clone().wait_for(is_there).await.map(drop).map_err(|_| ended())
}

fn ended() -> Status {
    shutting_down("the node shuts down".to_owned())
}
