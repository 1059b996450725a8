//! `rollmodel-fetch`: brings the bytes of a version to where they are used, and shows them only
//! when they are what was registered.
pub mod buffers;
pub mod cache;
pub mod cli;
pub mod credentials;
pub mod digest;
pub mod error;
pub mod guard;
pub mod http;
pub mod job;
pub mod name;
pub mod place;
pub mod progress;
pub mod signature;
pub mod signed;
pub mod source;
pub mod transfer;
pub mod unpack;
pub mod unpacked;
pub mod uri;
