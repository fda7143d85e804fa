//! Writes a history as it happens.
//!
//! A line is on its way to the file before the operation that it announces is sent, so a crash of the harness leaves a history
//! whose open operations are known. Memory is bounded: what waits for the disk is at most [`WAITING_MAX`] lines, then the
//! workload waits.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{
    fault::{Evidence, Fault, FaultId, Installed, Mark},
    line::Line,
    operation::{Action, Observed, Outcome},
    value::{Moment, NodeId, OperationId, Process},
};

/// Lines that may wait for the disk.
const WAITING_MAX: usize = 4_096;

/// What a run was: the first line of its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Of this format: 1.
    pub version: u32,
    /// Decides everything that is drawn by lot.
    pub seed: u64,
    /// Name of the log.
    pub origin: String,
    /// The tenant that the workloads write for.
    pub tenant: String,
    /// Nodes at the beginning.
    pub nodes: Vec<NodeId>,
    /// Faults that the schedule holds: each must be seen, or the run proves nothing.
    pub scheduled: Vec<Fault>,
    /// When it began, by the machine's clock: for people.
    pub began_unix_ns: u64,
    /// What was tested: the revision of the sources, say.
    pub subject: String,
}

impl RunHeader {
    /// Begins the header of a run that starts now.
    #[must_use]
    pub fn now(seed: u64, origin: &str, tenant: &str, nodes: Vec<NodeId>, scheduled: Vec<Fault>, subject: &str) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self {
            version: 1,
            seed,
            origin: origin.to_owned(),
            tenant: tenant.to_owned(),
            nodes,
            scheduled,
            began_unix_ns: u64::try_from(began).unwrap_or(u64::MAX),
            subject: subject.to_owned(),
        }
    }
}

/// How much a finished recorder wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Lines.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Records one run. Clones record into the same file.
#[derive(Clone, Debug)]
pub struct Recorder {
    lines: mpsc::Sender<Step>,
    began: Instant,
    numbers: Arc<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    operation: AtomicU64,
    process: AtomicU64,
    fault: AtomicU64,
}

#[derive(Debug)]
enum Step {
    Line(Box<Line>),
    Finish(oneshot::Sender<io::Result<Written>>),
}

impl Recorder {
    /// Begins a new history file.
    ///
    /// # Errors
    /// When the file exists, or cannot be written.
    pub fn create(path: &Path, header: RunHeader) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(path)?;
        let (lines, waiting) = mpsc::channel(WAITING_MAX);
        let mut writer = Writer { out: BufWriter::new(file), written: Written { lines: 0, bytes: 0 }, failed: None };
        writer.write(&Line::Run(header))?;
        writer.out.flush()?;
        let _: JoinHandle<()> = std::thread::Builder::new().name("history".to_owned()).spawn(move || writer.run(waiting))?;
        Ok(Self { lines, began: Instant::now(), numbers: Arc::default() })
    }

    /// Returns the moment that it is now.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Begins a new process.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor { process: self.next_process(), recorder: self.clone(), owes: false }
    }

    fn next_process(&self) -> Process {
        Process(self.numbers.process.fetch_add(1, Ordering::Relaxed))
    }

    /// Records that a fault begins. Dropped without an end, it counts as indeterminate.
    pub async fn fault(&self, fault: Fault, targets: &[NodeId], detail: &str) -> OpenFault {
        let id = FaultId(self.numbers.fault.fetch_add(1, Ordering::Relaxed));
        let (targets, detail) = (targets.to_vec(), detail.to_owned());
        self.line(Line::Fault { id, fault, targets, detail, at: self.now() }).await;
        OpenFault { id, recorder: self.clone() }
    }

    /// Records something that was seen from outside.
    pub async fn mark(&self, what: Mark) {
        self.line(Line::Mark { at: self.now(), what }).await;
    }

    /// Ends the recording. What is recorded later is lost.
    ///
    /// On return: every line so far is on the disk.
    ///
    /// # Errors
    /// When any line could not be written: then the history is not whole, and proves nothing.
    pub async fn finish(&self) -> io::Result<Written> {
        let (sender, answer) = oneshot::channel();
        let ended = || io::Error::other("the recorder ended before");
        self.lines.send(Step::Finish(sender)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    async fn line(&self, line: Line) {
        // Fails only when the recorder has finished; the history ended there.
        let _ = self.lines.send(Step::Line(Box::new(line))).await;
    }
}

/// One process: it has at most one operation open.
#[derive(Debug)]
pub struct Actor {
    recorder: Recorder,
    process: Process,
    /// An operation was begun and has no definite end.
    owes: bool,
}

impl Actor {
    /// Records that an operation begins: call it before anything is sent.
    ///
    /// A process whose last operation has no definite end is retired first; a new one goes on.
    pub async fn begin(&mut self, node: NodeId, action: Action) -> OpenOperation<'_> {
        let id = self.invoke(node, action).await;
        OpenOperation { id, actor: self }
    }

    /// As [`begin`](Self::begin), for an operation that ends elsewhere: the process goes with it.
    pub async fn begin_away(mut self, node: NodeId, action: Action) -> AwayOperation {
        let id = self.invoke(node, action).await;
        AwayOperation { id, actor: self }
    }

    async fn invoke(&mut self, node: NodeId, action: Action) -> OperationId {
        if std::mem::replace(&mut self.owes, true) {
            self.process = self.recorder.next_process();
        }
        let id = OperationId(self.recorder.numbers.operation.fetch_add(1, Ordering::Relaxed));
        let (process, at) = (self.process, self.recorder.now());
        self.recorder.line(Line::Invoke { id, process, node, at, action }).await;
        id
    }

    /// Returns the recorder.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

/// An operation that was begun. Dropped without an end, its fate is unknown.
#[derive(Debug)]
pub struct OpenOperation<'a> {
    id: OperationId,
    actor: &'a mut Actor,
}

impl OpenOperation<'_> {
    /// Returns its number.
    #[must_use]
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// Records what a stream brought.
    pub async fn observe(&self, what: Observed) {
        let recorder = &self.actor.recorder;
        recorder.line(Line::Observe { id: self.id, at: recorder.now(), what }).await;
    }

    /// Records that the operation ended: call it as soon as the answer is there.
    pub async fn end(self, outcome: Outcome) {
        self.actor.owes = matches!(outcome, Outcome::Info { .. });
        let recorder = &self.actor.recorder;
        recorder.line(Line::Return { id: self.id, at: recorder.now(), outcome }).await;
    }
}

/// An operation that was begun in one place and ends in another. Dropped without an end, its fate is unknown.
#[derive(Debug)]
pub struct AwayOperation {
    id: OperationId,
    actor: Actor,
}

impl AwayOperation {
    /// Records that the operation ended, and gives the process back.
    pub async fn end(mut self, outcome: Outcome) -> Actor {
        OpenOperation { id: self.id, actor: &mut self.actor }.end(outcome).await;
        self.actor
    }
}

/// A fault that was begun.
#[derive(Debug)]
pub struct OpenFault {
    id: FaultId,
    recorder: Recorder,
}

impl OpenFault {
    /// Records that the fault is over, what became of it and what shows that it was there.
    pub async fn end(self, installed: Installed, evidence: Evidence) {
        self.recorder.line(Line::FaultEnd { id: self.id, at: self.recorder.now(), installed, evidence }).await;
    }
}

/// The thread that writes.
struct Writer {
    out: BufWriter<File>,
    written: Written,
    failed: Option<io::Error>,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Step>) {
        loop {
            let step = match waiting.try_recv() {
                Ok(step) => Some(step),
                // Nothing waits: what was written so far survives a crash of this process.
                Err(_) => {
                    self.note(|writer| writer.out.flush());
                    waiting.blocking_recv()
                }
            };
            match step {
                Some(Step::Line(line)) => self.note(|writer| writer.write(&line)),
                Some(Step::Finish(answer)) => {
                    // Nobody waits for the answer any more: nothing is left to say.
                    let _ = answer.send(self.finish());
                    return;
                }
                None => return,
            }
        }
    }

    fn note(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) {
        if self.failed.is_none() {
            self.failed = write(self).err();
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.out.write_all(&text)?;
        self.written.lines += 1;
        self.written.bytes += text.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<Written> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(self.written)
    }
}
