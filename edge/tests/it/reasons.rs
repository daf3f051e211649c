//! The tables of reasons in `PROTOCOL.md` and in the browser's client are printed
//! from `src/reason.rs`. `BELFRY_BLESS=1` writes them.

use std::{env, fmt::Write as _, fs, path::Path};

use belfry::reason::Reason;
use edge::protocol::{MAX_FIRST_MESSAGE_BYTES, MAX_QUEUES, MAX_RECEIPTS, PUBLIC_REASONS, code};

fn compare(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found == expected {
        return;
    }
    assert!(
        env::var_os("BELFRY_BLESS").is_some(),
        "{} is not what src/reason.rs says: run with BELFRY_BLESS=1 and look at the difference",
        path.display()
    );
    fs::write(&path, expected).unwrap();
}

fn retry(reason: Reason) -> &'static str {
    match reason.advice().name() {
        "never" => "no",
        "fresh_token" => "with a fresh token",
        "backoff" => "after a pause, with jitter",
        _ => "after `retryAfterMs`",
    }
}

#[test]
fn the_protocol_page_has_the_table_of_reasons() {
    const BEGIN: &str = "<!-- reasons:begin -->\n";
    const END: &str = "<!-- reasons:end -->";
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the begin marker");
    let (_, after) = rest.split_once(END).expect("the end marker");
    let mut table = String::from(
        "| close code | `reason` | reconnect | meaning |\n| --- | --- | --- | --- |\n",
    );
    for reason in PUBLIC_REASONS {
        writeln!(
            table,
            "| {} | `{}` | {} | {} |",
            reason.close_code(),
            code(*reason),
            retry(*reason),
            reason.sentence()
        )
        .unwrap();
    }
    compare(
        "PROTOCOL.md",
        &format!("{before}{BEGIN}{table}{END}{after}"),
    );
}

#[test]
fn what_is_never_sent_is_marked_as_reserved() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap();
    let (before, _) = page.split_once(r#"{"type":"batch""#).expect("the frame");
    let paragraph = before.rsplit("\n\n").nth(1).unwrap();
    assert!(
        paragraph.starts_with("Reserved, not sent yet"),
        "{paragraph}"
    );
}

#[test]
fn the_browsers_client_has_the_table_of_reasons() {
    let mut file = String::from(
        "// Printed from src/reason.rs by a test of the edge; do not edit.\nexport const REASONS = [\n",
    );
    for reason in PUBLIC_REASONS {
        writeln!(
            file,
            "  {{ name: {:?}, closeCode: {}, advice: {:?}, sentence: {:?} }},",
            code(*reason),
            reason.close_code(),
            reason.advice().name(),
            reason.sentence()
        )
        .unwrap();
    }
    file.push_str("];\n");
    compare("web/client/src/reasons.js", &file);
}

#[test]
fn the_browsers_client_has_the_edges_limits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/client/src/limits.js");
    let script = fs::read_to_string(path).unwrap().replace('_', "");
    for (name, limit) in [
        ("MAXQUEUES", MAX_QUEUES),
        ("MAXRECEIPTS", MAX_RECEIPTS),
        ("MAXFIRSTFRAMEBYTES", MAX_FIRST_MESSAGE_BYTES),
    ] {
        let line = format!("export const {name} = {limit};");
        assert!(
            script.contains(&line),
            "web/client/src/limits.js lacks `{line}`"
        );
    }
}

#[test]
fn what_browsers_never_meet_is_not_in_their_table() {
    for reason in Reason::ALL {
        let internal = ["LINK_", "STORAGE_", "IDEMPOTENCY_", "MOVED"];
        if internal
            .iter()
            .any(|prefix| reason.name().starts_with(prefix))
        {
            assert!(!PUBLIC_REASONS.contains(reason), "{reason:?}");
        }
    }
}
