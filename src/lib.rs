//! The contract between Belfry's processes and the services that publish.
//!
//! What always holds: nothing in here knows a browser, the public protocol is the
//! edge's; a feature adds a side or a service, it changes none.
#![doc = include_str!("README.md")]

pub mod ack;
#[cfg(feature = "client")]
pub mod address;
pub mod backoff;
pub mod event;
#[cfg(feature = "test-util")]
pub mod fake_notifier;
#[cfg(feature = "identity")]
pub mod identity;
pub mod limits;
pub mod name;
#[cfg(feature = "client")]
pub mod notifiers;
#[cfg(feature = "client")]
pub mod publisher;
pub mod reason;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "watched-file")]
pub mod watched_file;

/// `belfry.v1`: messages, clients and servers as `proto/belfry/v1` documents them.
#[allow(missing_docs, unreachable_pub, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("belfry.v1");
}

/// The encoded descriptors of `belfry.v1`, for gRPC reflection.
#[cfg(feature = "server")]
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/belfry.binpb"));

/// The README's Rust example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
