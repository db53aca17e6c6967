//! What a question to a model is made of: answers by a schema, conversations with tools. Pure; the nodes ask.

pub mod conversation;
pub mod rounds;
pub mod structured;
