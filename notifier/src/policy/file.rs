//! The file of a policy: read whole or refused, with the line of what is wrong.

use std::{collections::BTreeMap, fmt, fs, io, ops::Range, path::Path, sync::Arc};

use belfry::{
    event::EventKind,
    identity::{Role, grant_covers, is_target},
    name::ServiceName,
};
use delivery::shares::Rates;
use serde::Deserialize;
use settings::Sizes;
use toml::Spanned;

/// Bytes of a file at most.
const MAX_BYTES: u64 = 1 << 20;
const BYTE_RATES: Sizes = Sizes::new(1 << 10, 1 << 40);

/// Why a file is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("the services' policy `{path}` cannot be read: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It is not TOML, or has other fields.
    #[error("the services' policy `{path}`, line {line}: {what}")]
    NotToml {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What the reader said.
        what: String,
    },
    /// A value that means nothing.
    #[error("the services' policy `{path}`, line {line}: `{value}` {rule}")]
    Value {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// As it is written.
        value: String,
        /// What it has to be.
        rule: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    services: BTreeMap<Spanned<String>, Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    role: Role,
    #[serde(default)]
    events: Vec<Spanned<String>>,
    #[serde(default)]
    targets: Vec<Spanned<String>>,
    publishes_per_second: Option<Spanned<u64>>,
    bytes_per_second: Option<Spanned<String>>,
    new_streams_per_second: Option<Spanned<u64>>,
    share_percent: Option<Spanned<u64>>,
}

/// What one service may do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    role: Role,
    events: Vec<String>,
    targets: Vec<String>,
    rates: Rates,
}

/// What all of them may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules(BTreeMap<String, Rule>);

/// What is different for one service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) service: String,
    pub(super) change: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.service, self.change)
    }
}

impl Rule {
    fn allows(&self, event: &str, stream: &str) -> bool {
        let mut events = self.events.iter();
        let mut targets = self.targets.iter();
        self.role == Role::Operator
            || (events.any(|granted| granted == "*" || granted == event)
                && targets.any(|granted| grant_covers(granted, stream)))
    }
}

impl Rules {
    pub(super) fn role(&self, service: &str) -> Option<Role> {
        self.0.get(service).map(|rule| rule.role)
    }

    pub(super) fn allows(&self, service: &str, event: &str, stream: &str) -> bool {
        let rule = self.0.get(service);
        rule.is_some_and(|rule| rule.allows(event, stream))
    }

    pub(super) fn rates(&self) -> BTreeMap<Arc<str>, Rates> {
        let rules = self.0.iter();
        rules
            .map(|(name, rule)| (name.as_str().into(), rule.rates))
            .collect()
    }

    /// In order of names.
    pub(super) fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut add = |service: &String, change: String| {
            let service = service.clone();
            differences.push(Difference { service, change });
        };
        for (name, rule) in &self.0 {
            match new.0.get(name) {
                None => add(name, "removed".to_owned()),
                Some(now) if now != rule => add(name, format!("{rule:?} became {now:?}")),
                Some(_) => {}
            }
        }
        for (name, rule) in &new.0 {
            if !self.0.contains_key(name) {
                add(name, format!("added with {rule:?}"));
            }
        }
        differences
    }
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Rules, PolicyError> {
    let shown = path.display().to_string();
    let cannot = |cause| PolicyError::Unreadable {
        path: shown.clone(),
        cause,
    };
    let bytes = fs::metadata(path).map_err(cannot)?.len();
    if bytes > MAX_BYTES {
        let cause = io::Error::other(format!("it has {bytes} bytes, it may have {MAX_BYTES}"));
        return Err(cannot(cause));
    }
    let text = fs::read_to_string(path).map_err(cannot)?;
    parse(&shown, &text)
}

/// Reads the text of a file.
pub(super) fn parse(path: &str, text: &str) -> Result<Rules, PolicyError> {
    let source = Source { path, text };
    let file: File = toml::from_str(text).map_err(|error| PolicyError::NotToml {
        path: path.to_owned(),
        line: source.line(&error.span().unwrap_or_default()),
        what: error.message().replace('\n', ", "),
    })?;
    let mut rules = BTreeMap::new();
    for (name, written) in file.services {
        if ServiceName::parse(name.get_ref().as_str()).is_err() {
            return Err(source.bad(&name, "is not the name of a service"));
        }
        let rule = source.rule(written)?;
        rules.insert(name.into_inner(), rule);
    }
    Ok(Rules(rules))
}

struct Source<'a> {
    path: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    fn bad<T: fmt::Display>(&self, value: &Spanned<T>, rule: &'static str) -> PolicyError {
        PolicyError::Value {
            path: self.path.to_owned(),
            line: self.line(&value.span()),
            value: value.get_ref().to_string().escape_debug().to_string(),
            rule,
        }
    }

    fn rule(&self, written: Written) -> Result<Rule, PolicyError> {
        let is_event = |event: &str| event == "*" || EventKind::from_name(event).is_some();
        let rule = "is not the name of an event such as `status_update`, or `*`";
        let events = self.list(written.events, is_event, rule)?;
        let rule = "is not `user:`, `queue:`, `user:<id>`, `queue:<id>`, `everyone` or `*`";
        let targets = self.list(written.targets, is_target, rule)?;
        let bytes = written.bytes_per_second;
        let bytes = bytes.map(|bytes| {
            let parsed = BYTE_RATES.parser()(bytes.get_ref());
            parsed.map_err(|_| self.bad(&bytes, "is not a size from 1KiB to 1TiB"))
        });
        let rate = "is not a number from 1 to 1000000000";
        let rates = Rates {
            publishes_per_s: self.number(written.publishes_per_second, 1_000_000_000, rate)?,
            bytes_per_s: bytes.transpose()?,
            streams_per_s: self.number(written.new_streams_per_second, 1_000_000_000, rate)?,
            share_percent: self.number(
                written.share_percent,
                100,
                "is not a number from 1 to 100",
            )?,
        };
        Ok(Rule {
            role: written.role,
            events,
            targets,
            rates,
        })
    }

    fn list(
        &self,
        values: Vec<Spanned<String>>,
        allows: impl Fn(&str) -> bool,
        rule: &'static str,
    ) -> Result<Vec<String>, PolicyError> {
        let mut list = Vec::with_capacity(values.len());
        for value in values {
            if !allows(value.get_ref()) {
                return Err(self.bad(&value, rule));
            }
            list.push(value.into_inner());
        }
        list.sort_unstable();
        list.dedup();
        Ok(list)
    }

    fn number(
        &self,
        value: Option<Spanned<u64>>,
        max: u64,
        rule: &'static str,
    ) -> Result<Option<u64>, PolicyError> {
        match value {
            Some(value) if !(1..=max).contains(value.get_ref()) => Err(self.bad(&value, rule)),
            value => Ok(value.map(Spanned::into_inner)),
        }
    }
}
