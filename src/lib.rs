//! The internal contract of Belfry, generated from `proto/belfry/v1`, and the
//! client that services publish with.
//!
//! Nothing in here knows a browser: the public protocol belongs to the edge.

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
pub mod publisher;
pub mod reason;

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
