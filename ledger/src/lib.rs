pub mod store;
pub use store::{Change, Changes, Direction, KeyRange, MapStore, Row, Store, StoreFault, Table};
