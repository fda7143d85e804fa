//! A snapshot on its way from one node to another: a header, then each file's name, size and digest followed by its bytes.
//!
//! Always true: nothing of a snapshot is used before every file has arrived with the announced size and digest and is
//! durable. Files are read and written on threads of their own, one piece at a time.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::{
    AnyError, Snapshot, StorageIOError, Vote,
    error::{Fatal, StreamingError},
    raft::SnapshotResponse,
};
use proofline_proto::peer::{FileHeader, SnapshotChunk, SnapshotHeader, peer_client::PeerClient, snapshot_chunk::Part};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::{self},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::{
    convert,
    network::{unreachable, unusable},
};
use crate::{
    replica::TypeConfig,
    store::{SnapshotFile, SnapshotFiles, StoreError},
};

const CONTEXT: &str = "proofline/v1 snapshot file";
/// Bytes of a file in one message.
const PIECE_BYTES: usize = 1 << 20;
/// Messages in memory between the disk and the connection.
const PIECES_WAITING: usize = 4;

/// Why a snapshot did not arrive whole.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The stream broke off.
    #[error("the stream broke off: {0}")]
    Broken(#[from] Box<Status>),
    /// The parts came in an order that makes no sense.
    #[error("unexpected part in a snapshot stream: {0}")]
    Unexpected(&'static str),
    /// A file's name is not one that a snapshot has, or came twice.
    #[error("a snapshot has no file {name:?}, or has it already")]
    Name {
        /// The name.
        name: String,
    },
    /// A file's content is not what was announced.
    #[error("file {name:?} of a snapshot arrived with another content than announced")]
    Content {
        /// The name.
        name: String,
    },
    /// Fewer or more files came than were announced.
    #[error("{received} files of a snapshot arrived, {announced} were announced")]
    Count {
        /// Files that came.
        received: u32,
        /// Files that the header announced.
        announced: u32,
    },
    /// It is damaged as it came, so it is damaged where it came from.
    #[error("the snapshot that came is damaged where it came from ({reason}); the node that leads now must be examined and replaced")]
    Damaged {
        /// What the database said.
        reason: String,
    },
    /// A file could not be read or written here.
    #[error("file {path} of a snapshot: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The snapshot directory could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that writes the files is gone.
    #[error("the transfer was cancelled")]
    Cancelled,
}

/// Sends `snapshot` and waits until it is installed.
pub(super) async fn send(
    mut client: PeerClient<Channel>,
    vote: Vote<u64>,
    snapshot: Snapshot<TypeConfig>,
) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
    let unreadable = |error: &TransferError| {
        StreamingError::StorageError(StorageIOError::read_snapshot(Some(snapshot.meta.signature()), AnyError::new(error)).into())
    };
    let files = snapshot.snapshot.list().map_err(|error| unreadable(&error.into()))?;
    let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
    let header = convert::snapshot_header(vote, &snapshot.meta, count).map_err(|error| unusable(&error))?;
    let (pieces, outgoing) = mpsc::channel(PIECES_WAITING);
    let reading = task::spawn_blocking(move || read_all(header, &files, &Pieces(pieces)));
    let answer = client.install_snapshot(ReceiverStream::new(outgoing)).await;
    // The reader ends as soon as nobody takes its pieces any more.
    if let Ok(Err(error)) = reading.await {
        return Err(unreadable(&error));
    }
    let answer = answer.map_err(|status| unreachable(&status))?.into_inner();
    Ok(SnapshotResponse::new(convert::parse_vote(answer.vote).map_err(|error| unusable(&error))?))
}

/// The reading end's way to the connection.
struct Pieces(mpsc::Sender<SnapshotChunk>);

/// The connection takes no more pieces: the call has ended, and its answer says why.
struct Ended;

impl Pieces {
    fn put(&self, part: Part) -> Result<(), Ended> {
        self.0.blocking_send(SnapshotChunk { part: Some(part) }).map_err(|_| Ended)
    }
}

fn read_all(header: SnapshotHeader, files: &[SnapshotFile], pieces: &Pieces) -> Result<(), TransferError> {
    if pieces.put(Part::Header(header)).is_err() {
        return Ok(());
    }
    for file in files {
        match read_one(file, pieces).map_err(|source| TransferError::File { path: file.path.clone(), source })? {
            Ok(()) => {}
            Err(Ended) => return Ok(()),
        }
    }
    Ok(())
}

fn read_one(file: &SnapshotFile, pieces: &Pieces) -> io::Result<Result<(), Ended>> {
    let digest = digest_of(&file.path)?;
    let header = FileHeader { name: file.name.clone(), size_bytes: file.size_bytes, digest: digest.to_vec() };
    if pieces.put(Part::File(header)).is_err() {
        return Ok(Err(Ended));
    }
    let mut source = File::open(&file.path)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        Read::take(&mut source, PIECE_BYTES as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(Ok(()));
        }
        if pieces.put(Part::Bytes(Bytes::from(piece))).is_err() {
            return Ok(Err(Ended));
        }
    }
}

fn digest_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().into())
}

/// Takes the header off the front of a snapshot stream.
pub(super) async fn header(
    chunks: &mut (impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin),
) -> Result<SnapshotHeader, TransferError> {
    match next_part(chunks).await? {
        Some(Part::Header(header)) => Ok(header),
        Some(Part::File(_) | Part::Bytes(_)) | None => Err(TransferError::Unexpected("the header is missing")),
    }
}

/// Receives `announced` files into `files`.
///
/// On return: all of them are whole and durable.
pub(super) async fn receive(
    mut chunks: impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin,
    files: SnapshotFiles,
    announced: u32,
) -> Result<SnapshotFiles, TransferError> {
    let (pieces, incoming) = mpsc::channel(PIECES_WAITING);
    let writing = task::spawn_blocking(move || Receiving::new(files, announced).run(incoming));
    let mut broken = None;
    loop {
        match next_part(&mut chunks).await {
            Ok(Some(part)) => {
                if pieces.send(part).await.is_err() {
                    // The writer found something wrong; it says what.
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    drop(pieces);
    let written = writing.await.map_err(|_| TransferError::Cancelled)?;
    broken.map_or(written, Err)
}

/// Checks that received files are the snapshot that was announced, and whole.
pub(super) async fn check(snapshot: Snapshot<TypeConfig>) -> Result<Snapshot<TypeConfig>, TransferError> {
    let checking = move || {
        snapshot.snapshot.check(&snapshot.meta)?;
        // The digests of the files are of what the sender read from its disk.
        match snapshot.snapshot.verify() {
            Ok(()) => Ok(snapshot),
            Err(StoreError::Corrupted { reason }) => Err(TransferError::Damaged { reason }),
            Err(error) => Err(error.into()),
        }
    };
    task::spawn_blocking(checking).await.map_err(|_| TransferError::Cancelled)?
}

async fn next_part(chunks: &mut (impl Stream<Item = Result<SnapshotChunk, Status>> + Unpin)) -> Result<Option<Part>, TransferError> {
    match chunks.next().await {
        None => Ok(None),
        Some(Err(status)) => Err(Box::new(status).into()),
        Some(Ok(chunk)) => chunk.part.map(Some).ok_or(TransferError::Unexpected("an empty part")),
    }
}

/// The files of a snapshot as they arrive.
struct Receiving {
    files: SnapshotFiles,
    announced: u32,
    received: u32,
    current: Option<Arriving>,
}

/// One file as it arrives.
struct Arriving {
    header: FileHeader,
    path: PathBuf,
    file: File,
    bytes: u64,
    hasher: blake3::Hasher,
}

impl Receiving {
    fn new(files: SnapshotFiles, announced: u32) -> Self {
        Self { files, announced, received: 0, current: None }
    }

    fn run(mut self, mut parts: mpsc::Receiver<Part>) -> Result<SnapshotFiles, TransferError> {
        while let Some(part) = parts.blocking_recv() {
            match part {
                Part::Header(_) => return Err(TransferError::Unexpected("a second header")),
                Part::File(header) => self.begin(header)?,
                Part::Bytes(bytes) => {
                    self.current.as_mut().ok_or(TransferError::Unexpected("bytes of no file"))?.write(&bytes)?;
                }
            }
        }
        self.end_current()?;
        if self.received != self.announced {
            return Err(TransferError::Count { received: self.received, announced: self.announced });
        }
        self.files.sync()?;
        Ok(self.files)
    }

    fn begin(&mut self, header: FileHeader) -> Result<(), TransferError> {
        self.end_current()?;
        let named = |name: &str| TransferError::Name { name: name.to_owned() };
        let path = self.files.path_of(&header.name).ok_or_else(|| named(&header.name))?;
        let file = File::create_new(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => named(&header.name),
            _ => TransferError::File { path: path.clone(), source },
        })?;
        self.current = Some(Arriving { header, path, file, bytes: 0, hasher: blake3::Hasher::new_derive_key(CONTEXT) });
        Ok(())
    }

    fn end_current(&mut self) -> Result<(), TransferError> {
        if let Some(arriving) = self.current.take() {
            arriving.check()?;
            self.received = self.received.saturating_add(1);
        }
        Ok(())
    }
}

impl Arriving {
    fn write(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        if self.bytes > self.header.size_bytes {
            return Err(TransferError::Content { name: self.header.name.clone() });
        }
        self.hasher.update(piece);
        self.file.write_all(piece).map_err(|source| TransferError::File { path: self.path.clone(), source })
    }

    fn check(self) -> Result<(), TransferError> {
        let digest: [u8; 32] = self.hasher.finalize().into();
        if self.bytes == self.header.size_bytes && self.header.digest == digest {
            return Ok(());
        }
        Err(TransferError::Content { name: self.header.name })
    }
}

#[cfg(test)]
mod tests;
