//! The keys of publishers and of subscribers. What keys and signatures are is in `gush-middleware`.

use crate::token::Grants;

pub use gush_middleware::auth::{KEY_FILE_BYTES_MAX, KeyError, sign};

/// The keys of one role.
pub type KeyRing = gush_middleware::auth::KeyRing<Grants>;

/// Whose tokens a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Tokens that publish.
    Publisher,
    /// Tokens that subscribe, and that read the subscriptions API.
    Subscriber,
}

/// The begin of the names of its options, `publisher_key` and so on.
impl From<Role> for &'static str {
    fn from(role: Role) -> Self {
        match role {
            Role::Publisher => "publisher",
            Role::Subscriber => "subscriber",
        }
    }
}
