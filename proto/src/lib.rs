//! The Proofline contract: message types, and with the feature `grpc` the client and server stubs.
//!
//! Nothing here decides anything. What the messages mean, and which of their bytes are hashed and signed, is in
//! `docs/FORMATS.md`; the sources of the types are the `.proto` files of this crate.

/// The contract as generated: lints speak of code that people write.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, unreachable_pub)]
#[rustfmt::skip]
mod generated {
    pub mod proofline {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/proofline.v1.rs"));
        }
        pub mod peer {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/proofline.peer.v1.rs"));
            }
        }
    }
}

/// Messages between the nodes of one cluster.
pub use generated::proofline::peer::v1 as peer;
/// Events, entries, proofs and the public services.
pub use generated::proofline::v1;

/// The public contract as a serialised `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
