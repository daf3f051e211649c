//! Figures beside their budgets, for people and for programs.

use std::io::{self, IsTerminal};

use serde::Serialize;

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    /// What was measured.
    pub(super) name: String,
    /// `µs` of CPU, `KiB` resident.
    pub(super) unit: &'static str,
    /// Per what.
    pub(super) per: &'static str,
    /// The notifier's part.
    pub(super) notifier: f64,
    /// The edge's part.
    pub(super) edge: f64,
    /// Both together.
    pub(super) sum: f64,
    /// The floor in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) floor: Option<f64>,
    /// What `sum` (or the summand that the rule names) may be.
    pub(super) budget: f64,
    /// How the budget is stated.
    pub(super) rule: &'static str,
    /// Whether it is kept.
    pub(super) pass: bool,
    /// Events or connections that it is the mean of.
    pub(super) units: u64,
    /// Whatever else was seen.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) note: String,
}

impl Figure {
    /// A figure with a fixed budget for its sum.
    pub(super) fn new(
        name: impl Into<String>,
        (unit, per): (&'static str, &'static str),
        (notifier, edge): (f64, f64),
        (budget, rule): (f64, &'static str),
    ) -> Self {
        let sum = notifier + edge;
        let name = name.into();
        let (floor, units, note) = (None, 0, String::new());
        let pass = sum <= budget;
        Self {
            name,
            unit,
            per,
            notifier,
            edge,
            sum,
            floor,
            budget,
            rule,
            pass,
            units,
            note,
        }
    }
}

/// Prints all of them; whether every budget is kept.
pub(super) fn print(figures: &[Figure], json: bool) -> bool {
    if json {
        let all = serde_json::json!({ "debugBuild": cfg!(debug_assertions), "figures": figures });
        println!("{all}");
    } else {
        table(figures);
    }
    figures.iter().all(|figure| figure.pass)
}

fn table(figures: &[Figure]) {
    let colour = crate::serve::colours(&io::stdout());
    println!(
        "\n{:<38} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "notifier", "edge", "sum", "floor", "budget"
    );
    for figure in figures {
        let floor = figure
            .floor
            .map_or("–".to_owned(), |floor| format!("{floor:.2}"));
        let verdict = match (figure.pass, colour) {
            (true, true) => "\x1b[32mpass\x1b[0m",
            (false, true) => "\x1b[31mMISS\x1b[0m",
            (true, false) => "pass",
            (false, false) => "MISS",
        };
        println!(
            "{:<38} {:>9.2} {:>9.2} {:>9.2} {floor:>9} {:>9.2}  {verdict}",
            figure.name, figure.notifier, figure.edge, figure.sum, figure.budget
        );
        println!(
            "  {} {}, mean of {}; budget: {}{}{}",
            figure.unit,
            figure.per,
            figure.units,
            figure.rule,
            if figure.note.is_empty() { "" } else { "; " },
            figure.note
        );
    }
    if cfg!(debug_assertions) {
        println!("\nthis is a debug build: the figures say nothing about a release");
    }
}

/// A bar on a terminal, silence elsewhere.
pub(super) fn progress(what: &str, length: u64) -> indicatif::ProgressBar {
    if !io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{msg:38} {wide_bar} {pos}/{len} {eta}")
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    indicatif::ProgressBar::new(length)
        .with_style(style)
        .with_message(what.to_owned())
}
