//! What a token says, for whoever holds it. Nothing here is believed.

use serde_json::{Map, Value};

use super::{TokenFault, claims::Segments};

/// The two readable segments of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The header's members.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

impl Content {
    /// Reads a token without verifying anything.
    ///
    /// # Errors
    /// If it has not the form of a signed token.
    pub fn read(token: &str) -> Result<Self, TokenFault> {
        let segments = Segments::split(token)?;
        Ok(Self {
            header: segments.header()?,
            claims: segments.claims(TokenFault::Malformed)?,
        })
    }
}
