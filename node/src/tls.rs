//! Who may connect, and as whom.
//!
//! Both listeners ask for a certificate, each under a root of its own: a peer's certificate opens nothing on the client
//! listener, a client's nothing on the peer listener. A caller's name is the SPIFFE URI in its certificate; host names decide
//! nothing between nodes. Certificates are read again when their files change, without a restart: new connections use the
//! new ones, a connection that is open stays open.
//!
//! Plaintext exists for one machine only: it is refused wherever the address is not a loopback one.
//!
//! What it does not do: it does not decide what a caller may do, and it checks no revocation lists; certificates are meant
//! to be short-lived.

mod connection;
mod credentials;
mod listener;
mod room;
mod spiffe;
mod transport;
mod verifier;

pub use self::{
    connection::{Caller, Channel, Connection},
    credentials::{Credentials, CredentialsError, TlsFiles},
    listener::{ListenError, Security, incoming},
    room::Room,
    spiffe::{SpiffeError, SpiffeId},
    transport::{AddressError, Transport},
};
