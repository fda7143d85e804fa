use std::fs;

use futures::stream;
use tempfile::TempDir;

use super::*;
use crate::{
    data_dir::{DataDir, Identity},
    store::StateStore,
};

struct World {
    store: StateStore,
    _root: TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(root.path(), Identity { origin: "example.org/log".to_owned(), node_id: 1 }).unwrap();
        Self { store: StateStore::open(&dir).unwrap().0, _root: root }
    }

    async fn receive(&self, parts: Vec<Result<SnapshotChunk, Status>>, announced: u32) -> Result<SnapshotFiles, TransferError> {
        receive(stream::iter(parts), self.store.incoming().unwrap(), announced).await
    }

    fn left_behind(&self) -> usize {
        let path = self.store.incoming().unwrap().path_of("CURRENT").unwrap();
        let root = path.parent().and_then(Path::parent).unwrap();
        let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("incoming")).count()
    }
}

fn part(part: Part) -> Result<SnapshotChunk, Status> {
    Ok(SnapshotChunk { part: Some(part) })
}

fn header_of(name: &str, content: &[u8]) -> Result<SnapshotChunk, Status> {
    let digest = blake3::derive_key(CONTEXT, content).to_vec();
    part(Part::File(FileHeader { name: name.to_owned(), size_bytes: content.len() as u64, digest }))
}

fn bytes(content: &'static [u8]) -> Result<SnapshotChunk, Status> {
    part(Part::Bytes(Bytes::from_static(content)))
}

#[tokio::test]
async fn files_arrive_in_pieces() {
    let world = World::new();
    let parts = vec![
        header_of("000001.sst", b"table"),
        bytes(b"ta"),
        bytes(b"ble"),
        header_of("CURRENT", b""),
        header_of("MANIFEST-000002", b"m"),
        bytes(b"m"),
    ];
    let files = world.receive(parts, 3).await.unwrap();
    let names: Vec<String> = files.list().unwrap().into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["000001.sst", "CURRENT", "MANIFEST-000002"]);
    assert_eq!(fs::read(files.path_of("000001.sst").unwrap()).unwrap(), b"table");
}

#[tokio::test]
async fn a_stream_that_is_not_whole_is_refused_and_leaves_nothing() {
    let world = World::new();
    let whole = || header_of("000001.sst", b"table");
    let cases = [
        ("a changed byte", vec![whole(), bytes(b"tablE")], 1),
        ("too few bytes", vec![whole(), bytes(b"tabl")], 1),
        ("too many bytes", vec![whole(), bytes(b"tables")], 1),
        ("a missing file", vec![whole(), bytes(b"table")], 2),
        ("a file too many", vec![whole(), bytes(b"table"), header_of("CURRENT", b"")], 1),
        ("the same file twice", vec![whole(), bytes(b"table"), whole(), bytes(b"table")], 2),
        ("a name that leads elsewhere", vec![header_of("../000001.sst", b"table"), bytes(b"table")], 1),
        ("a name that no database uses", vec![header_of("LOCK", b"table"), bytes(b"table")], 1),
        ("bytes of no file", vec![bytes(b"table")], 0),
        ("an empty part", vec![Ok(SnapshotChunk { part: None })], 0),
        ("a second header", vec![part(Part::Header(SnapshotHeader::default()))], 0),
        ("a broken connection", vec![whole(), bytes(b"table"), Err(Status::cancelled("gone"))], 1),
    ];
    for (what, parts, announced) in cases {
        assert!(world.receive(parts, announced).await.is_err(), "{what} was accepted");
    }
    assert_eq!(world.left_behind(), 0);
}

#[tokio::test]
async fn a_stream_begins_with_its_header() {
    let mut without = stream::iter(vec![bytes(b"table")]);
    assert!(header(&mut without).await.is_err());
    let mut with = stream::iter(vec![part(Part::Header(SnapshotHeader { files: 3, ..SnapshotHeader::default() }))]);
    assert_eq!(header(&mut with).await.unwrap().files, 3);
}
