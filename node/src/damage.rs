//! What a database error says of the disk, and what is done about a node whose disk is not to be believed.

/// What an operator does with a node whose directory cannot be trusted any more.
pub(crate) const REPLACE: &str = "keep this directory for examination, remove the node from the cluster, and rejoin it with an empty data \
                                  directory, a new node id and a new key";

/// How RocksDB says that a file is gone which it has a note of: the error carries no code of its own for that.
const GONE: &str = "IO error: No such file or directory";

/// Tells whether the disk holds something else than the database wrote: another content, or nothing where a file was. Anything
/// else is a failure of the disk, after which a restart may help.
pub(crate) fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => true,
        rocksdb::ErrorKind::IOError => error.as_ref().starts_with(GONE),
        _ => false,
    }
}
