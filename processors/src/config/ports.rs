//! Ports that may be connected to.

use std::{fmt, str::FromStr};

/// Ports of one list at most.
const MAX_PORTS: usize = 16;

/// A list of ports, or every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(Vec<u16>);

impl Ports {
    /// These ports; with none, every port.
    pub fn new(ports: &[u16]) -> Self {
        Self(ports.to_vec())
    }

    /// Empty: every port.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.0
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self(Vec::new()));
        }
        let ports = text.split(',').map(|port| port.trim().parse().ok());
        let ports: Option<Vec<u16>> = ports.collect();
        let fits = |ports: &Vec<u16>| ports.len() <= MAX_PORTS && !ports.contains(&0);
        ports
            .filter(fits)
            .map(Self)
            .ok_or_else(|| format!("1 to {MAX_PORTS} ports separated by commas, or `any`"))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any");
        }
        let ports: Vec<String> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&ports.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ports_is_read_as_it_is_written() {
        for text in ["80,443", "8080", "any"] {
            let ports: Ports = text.parse().unwrap();
            assert_eq!(ports.to_string(), text);
        }
        for text in ["", "0", "80,", "65536", "-1", "http", &["1"; 17].join(",")] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }
}
