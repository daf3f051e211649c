//! Settings that cannot work. A check reports all of them, never only the first.

use std::fmt::{self, Display};

use crate::Rule;

/// One setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting: its flag without the dashes, or the field if it has no flag.
    pub setting: &'static str,
    /// The rest of the sentence: the value and what it must be.
    pub problem: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.setting, self.problem)
    }
}

/// All settings that cannot work. Shown as one line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// Adds a fault if `rule` does not allow `value`.
    pub fn check<R: Rule>(&mut self, setting: &'static str, value: &R::Value, rule: &R) {
        if !rule.allows(value) {
            self.refuse(setting, &R::show(value), rule);
        }
    }

    /// Adds a fault if `parse` does not accept `value`; its error is the rule.
    pub fn check_text<T>(
        &mut self,
        setting: &'static str,
        value: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        if let Err(rule) = parse(value) {
            self.refuse(setting, &value, &rule);
        }
    }

    /// Adds a fault: `setting` is `value`, which is not what `rule` says.
    pub fn refuse(&mut self, setting: &'static str, value: &dyn Display, rule: &dyn Display) {
        self.push(setting, format!("is `{value}`, but it must be {rule}"));
    }

    /// Adds a fault with a sentence of its own.
    pub fn push(&mut self, setting: &'static str, problem: String) {
        self.0.push(Fault { setting, problem });
    }

    /// Adds the faults of a part.
    pub fn append(&mut self, part: Result<(), Faults>) {
        self.0
            .extend(part.err().into_iter().flat_map(|faults| faults.0));
    }

    /// # Errors
    /// With itself, if there is a fault.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counts, name};

    #[test]
    fn all_faults_are_reported_one_a_line() {
        let mut faults = Faults::default();
        faults.check("shards", &65, &Counts::new(1, 64));
        faults.check("workers", &1, &Counts::new(1, 64));
        faults.check_text("edge-name", "", name);
        let text = faults.into_result().unwrap_err().to_string();
        assert_eq!(
            text,
            "`shards` is `65`, but it must be a whole number from 1 to 64\n\
             `edge-name` is ``, but it must be 1 to 64 letters, digits, `-`, `_` or `.`"
        );
    }
}
