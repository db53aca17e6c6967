//! Secrets: where they come from, how they are sealed, how they are masked.

mod base64;
mod mask;
mod master_key;
mod sources;

pub use self::mask::Mask;
pub use self::master_key::KeyError;
pub use self::master_key::Kms;
pub use self::master_key::MASTER_KEY_VARIABLE;
pub use self::master_key::MasterKey;
pub use self::master_key::create_master_key_file;
pub use self::sources::SecretError;
pub use self::sources::Secrets;
pub use self::sources::Source;
