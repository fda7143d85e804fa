use std::{
    fmt,
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{Case, Judgement, Predicate, Reading};

/// What the predicates came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One for each predicate, in order.
    pub judgements: Vec<(Predicate, Judgement)>,
}

impl Report {
    /// Tells whether every predicate holds.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.judgements.iter().all(|(_, judgement)| judgement.is_true())
    }

    /// Returns the predicates that are false.
    #[must_use]
    pub fn violated(&self) -> Vec<Predicate> {
        let is_false = |judgement: &Judgement| matches!(judgement, Judgement::False { .. });
        self.judgements.iter().filter(|(_, judgement)| is_false(judgement)).map(|(predicate, _)| *predicate).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (predicate, judgement) in &self.judgements {
            match judgement {
                Judgement::True => writeln!(out, "true     {predicate}")?,
                Judgement::Unknown(why) => {
                    writeln!(out, "UNKNOWN  {predicate}")?;
                    why.iter().try_for_each(|why| writeln!(out, "           {why}"))?;
                }
                Judgement::False { anomalies, count } => {
                    writeln!(out, "FALSE    {predicate}: {count} found; {}", predicate.words())?;
                    for anomaly in anomalies.iter().take(10) {
                        let index = anomaly.index.map_or(String::new(), |index| format!(" at entry {index}"));
                        let operations: Vec<u64> = anomaly.operations.iter().map(|id| id.0).collect();
                        let nodes: Vec<u64> = anomaly.nodes.iter().map(|id| id.0).collect();
                        writeln!(
                            out,
                            "           {}{index}: {}; operations {operations:?}, nodes {nodes:?}",
                            anomaly.name, anomaly.detail
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Judges a run by every predicate.
#[must_use]
pub fn judge(case: &Case) -> Report {
    judge_read(&Reading::of(case))
}

/// Judges a run that was read, on all processors.
#[must_use]
pub fn judge_read(reading: &Reading<'_>) -> Report {
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(predicate) = Predicate::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            reading.judged(*predicate);
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(1, NonZeroUsize::get) - 1;
        for _ in 0..others {
            scope.spawn(worker);
        }
        worker();
    });
    Report { judgements: Predicate::ALL.into_iter().map(|predicate| (predicate, reading.judged(predicate).clone())).collect() }
}

/// Judges a run by one predicate.
#[must_use]
pub fn judge_one(case: &Case, predicate: Predicate) -> Judgement {
    Reading::of(case).judged(predicate).clone()
}
