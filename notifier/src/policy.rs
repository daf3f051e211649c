//! What services may do, beyond what their tokens say: the services' policy.
//!
//! What always holds: without a file, tokens decide alone. With one, a service that it
//! does not list may do nothing, and a listed one what its token and its rule both
//! allow. A new file holds for the next call and the next event of a stream; one that
//! cannot be read whole changes nothing.

mod file;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use belfry::identity::{Role, Service};
use delivery::shares::Rates;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc::WeakSender;

pub use self::file::PolicyError;
use self::file::Rules;
use crate::{hub::Command, shares::Shares};

/// Why a service was denied something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The file does not list it.
    NotListed,
    /// It is listed with another role.
    OtherRole,
}

/// The policy in use; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    path: Option<Arc<PathBuf>>,
    rules: Arc<ArcSwapOption<Rules>>,
    /// Calls and events that were denied.
    pub(crate) denied: Counter,
    hub: Option<WeakSender<Command>>,
    shares: Option<Shares>,
}

impl Policy {
    /// Reads the file, if there is to be one.
    ///
    /// # Errors
    /// If it is not a policy, with line and value.
    pub fn read(path: Option<&PathBuf>) -> Result<Self, PolicyError> {
        let rules = path.map(|path| file::read(path)).transpose()?;
        Ok(Self {
            path: path.cloned().map(Arc::new),
            rules: Arc::new(ArcSwapOption::from_pointee(rules)),
            ..Self::default()
        })
    }

    /// Reads the text of a file, which is then named `policy`.
    ///
    /// # Errors
    /// If it is not a policy, with line and value.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let rules = file::parse("policy", text)?;
        Ok(Self {
            rules: Arc::new(ArcSwapOption::from_pointee(Some(rules))),
            ..Self::default()
        })
    }

    /// New rates are sent to this hub; shares are set to those in use, and to new ones.
    pub(crate) fn for_hub(self, hub: WeakSender<Command>, shares: Shares) -> Self {
        shares.set_rates(self.rates());
        Self {
            hub: Some(hub),
            shares: Some(shares),
            ..self
        }
    }

    /// The role that its rule gives a service: `None` if no rule is about it.
    pub fn role(&self, service: &str) -> Option<Role> {
        self.rules.load().as_ref()?.role(service)
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_deref()
    }

    /// Reads the file again: `None` if nothing is different, or what is.
    ///
    /// # Errors
    /// If it is not a policy, with line and value; the one before stays in use.
    pub fn reload(&self) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        let new = file::read(path)?;
        let old = self.rules.load_full().unwrap_or_default();
        let differences = old.differences(&new);
        if differences.is_empty() {
            return Ok(None);
        }
        let hub = self.hub.as_ref().and_then(WeakSender::upgrade);
        if let Some(hub) = hub {
            let sent = hub.try_send(Command::Rates(new.rates()));
            sent.map_err(|_| "the hub takes no new rates now, they are tried again")?;
        }
        if let Some(shares) = &self.shares {
            shares.set_rates(new.rates());
        }
        self.rules.store(Some(Arc::new(new)));
        for difference in &differences {
            tracing::info!(
                target: "audit",
                action = "policy.changed",
                subject = %difference.service,
                change = %difference.change,
                "the services' policy changed"
            );
        }
        let all: Vec<_> = differences.iter().map(ToString::to_string).collect();
        Ok(Some(all.join("; ")))
    }

    /// The rates that the rules name.
    pub(crate) fn rates(&self) -> BTreeMap<Arc<str>, Rates> {
        let rules = self.rules.load();
        rules
            .as_ref()
            .map_or_else(BTreeMap::new, |rules| rules.rates())
    }

    /// Whether there is a file.
    pub(crate) fn is_in_force(&self) -> bool {
        self.rules.load().is_some()
    }

    /// Whether a service may call at all.
    pub(crate) fn admits(&self, caller: &Service) -> Result<(), Denial> {
        let rules = self.rules.load();
        let Some(rules) = rules.as_ref() else {
            return Ok(());
        };
        match rules.role(&caller.name) {
            None => Err(Denial::NotListed),
            Some(role) if role != caller.role => Err(Denial::OtherRole),
            Some(_) => Ok(()),
        }
    }

    /// Whether its rule allows a service to publish this event to this stream.
    pub(crate) fn allows(&self, caller: &Service, event: &str, stream: &str) -> bool {
        let rules = self.rules.load();
        let Some(rules) = rules.as_ref() else {
            return true;
        };
        self.admits(caller).is_ok() && rules.allows(&caller.name, event, stream)
    }
}

#[cfg(test)]
mod tests;
