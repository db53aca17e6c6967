//! Approvals: what a run asks people, who may say what to it, and when that decides.

mod decide;
mod form;
mod request;
mod vote;

pub use self::decide::Case;
pub use self::decide::Decision;
pub use self::decide::Refusal;
pub use self::decide::Standing;
pub use self::decide::decide;
pub use self::decide::is_asked;
pub use self::decide::standing;
pub use self::form::Field;
pub use self::form::defaults;
pub use self::form::fields;
pub use self::request::Request;
pub use self::request::output;
pub use self::vote::Ballot;
pub use self::vote::Error;
pub use self::vote::cast;
pub use self::vote::starter;
