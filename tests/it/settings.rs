//! Settings as an operator meets them: the reference page, `--check-config`, the
//! environment, secrets.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A command of the binary without variables of this machine.
fn belfry(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_belfry"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BELFRY_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Exit code, and everything that was printed.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("ran");
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    (output.status.code(), printed)
}

/// A data directory with all secrets.
fn data() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("secrets")).expect("a directory");
    for name in ["users.key", "services.key", "files.key"] {
        write_secret(&dir.path().join("secrets").join(name), 64);
    }
    let token = dir.path().join("secrets/edge.token");
    fs::write(token, "header.claims.signature").expect("written");
    dir
}

fn write_secret(path: &Path, length: usize) {
    let text = "0123456789abcdef".repeat(8);
    fs::write(path, &text[..length]).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode");
}

/// Arguments of a role that needs nothing but `dir`, on ports of the system's choice.
fn on_free_ports(role: &'static str, dir: &Path) -> Vec<String> {
    let listeners: &[&str] = match role {
        "edge" => &["--edge-listen"],
        "notifier" => &["--grpc-listen", "--notifier-http-listen"],
        "processors" => &["--processors-listen"],
        _ => &[
            "--edge-listen",
            "--grpc-listen",
            "--notifier-http-listen",
            "--processors-listen",
        ],
    };
    let dir = dir.to_str().expect("UTF-8").to_owned();
    let mut arguments = vec![role.to_owned(), "--data-dir".to_owned(), dir];
    for listener in listeners {
        arguments.extend([(*listener).to_owned(), "127.0.0.1:0".to_owned()]);
    }
    arguments
}

#[test]
fn the_reference_page_is_made_from_the_definitions() {
    let (code, printed) = run(&mut belfry(&["config", "reference"]));
    assert_eq!(code, Some(0));
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let page = fs::read_to_string(page).expect("the page");
    assert!(
        page == printed,
        "`belfry config reference > docs/settings.md` brings the page up to date"
    );
}

#[test]
fn a_check_and_a_start_refuse_the_same() {
    let dir = data();
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    write_secret(&dir.path().join("short.key"), 5);
    fs::write(path("empty"), "\n").expect("written");
    fs::write(path("file"), "").expect("written");
    let (missing, short) = (path("none"), path("short.key"));
    let (empty, below_a_file) = (path("empty"), path("file/data"));
    let cases: &[(&str, &[&str], &str)] = &[
        ("edge", &["--origins", "https://*.example.com"], "--origins"),
        ("edge", &["--service-token-file", &missing], "--role ROLE"),
        ("edge", &["--secrets-dir", &missing], "edge.token"),
        ("notifier", &["--services-key-file", &missing], "none"),
        ("edge", &["--service-token-file", &empty], "is empty"),
        ("edge", &["--edge-listen", "192.0.2.1:0"], "--edge-listen"),
        ("notifier", &["--services-key-file", &short], "short.key"),
        (
            "notifier",
            &["--grpc-listen", "192.0.2.1:0"],
            "--grpc-listen",
        ),
        ("processors", &["--files-key-file", &missing], "none"),
        (
            "processors",
            &["--database-url", "mysql://db/x"],
            "--database-url",
        ),
        (
            "processors",
            &["--transcription-key-file", &missing],
            "--transcription-key-file",
        ),
        (
            "processors",
            &[
                "--transcription-url",
                "http://127.0.0.1:1/v1",
                "--transcription-command",
                "x",
            ],
            "leave one out",
        ),
        (
            "processors",
            &["--typeform-secret-file", &empty],
            "is empty",
        ),
        (
            "processors",
            &["--typeform-documents", "f=no_such_type"],
            "no_such_type",
        ),
        ("up", &["--secrets-dir", &below_a_file], "file/data"),
        (
            "up",
            &["--dev-tokens", "true", "--origins", "https://a.test"],
            "--origins",
        ),
    ];
    for (role, more, named) in cases {
        let arguments = on_free_ports(role, dir.path());
        let start = || {
            // The last of two flags of one name would be an error: a case replaces it.
            let mut all = arguments.clone();
            if let Some(at) = all.iter().position(|argument| argument == more[0]) {
                all.drain(at..at + 2);
            }
            all.extend(more.iter().map(|argument| (*argument).to_owned()));
            all
        };
        let all = start();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let (started, said) = run(&mut belfry(&all));
        assert_eq!(started, Some(2), "{all:?}: {said}");
        let (checked, printed) = run(belfry(&all).arg("--check-config"));
        assert_eq!(checked, Some(2), "{all:?}: {printed}");
        assert!(printed.contains(named), "{all:?}: {printed}");
    }
}

#[test]
fn a_check_reports_all_faults_at_once_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let arguments = on_free_ports("processors", &data);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let token = ["--typeform-token-file", "/none", "--check-config"];
    let (code, printed) = run(belfry(&arguments).args(token));
    assert_eq!((code, printed.lines().count()), (Some(2), 4), "{printed}");
    let arguments = on_free_ports("up", &data);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (code, printed) = run(belfry(&arguments).arg("--check-config"));
    assert_eq!(code, Some(0), "{printed}");
    assert!(!data.exists(), "a check creates nothing");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let dir = data();
    let file = dir.path().join("belfry.toml");
    fs::write(&file, "drain = '3s'\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let (_, page) = run(&mut belfry(&["config", "reference"]));
    let variables = page.split('`').filter(|text| {
        let name = text.strip_prefix("BELFRY_");
        name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
    });
    let variables: Vec<&str> = variables.collect();
    assert!(variables.len() > 40, "{variables:?}");
    for role in ["up", "notifier", "edge", "processors"] {
        let arguments = on_free_ports(role, dir.path());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = belfry(&arguments);
        command.args(["--check-config", "--config", file]);
        command.envs(variables.iter().map(|name| (name, "")));
        let (code, printed) = run(&mut command);
        assert_eq!(code, Some(0), "{role}: {printed}");
    }
    let url = "http://127.0.0.1:1";
    let publish = [
        "publish", "custom", "--name", "n", "--user", "u", "--within", "1ms",
    ];
    let mut command = belfry(&publish);
    command
        .args(["--notifier-url", url, "--data-dir"])
        .arg(dir.path());
    let (code, printed) = run(command.env("BELFRY_SERVICE_TOKEN_FILE", ""));
    assert_eq!(code, Some(1), "it gets as far as to connect: {printed}");
}

#[test]
fn a_variable_that_nothing_reads_is_named_with_the_right_name() {
    let dir = data();
    let arguments = on_free_ports("edge", dir.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = belfry(&arguments);
    command.arg("--check-config").env("BELFRY_ORIGIN", "x");
    let (code, printed) = run(&mut command);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("`BELFRY_ORIGIN` is not a setting, did you mean `BELFRY_ORIGINS`?"),
        "{printed}"
    );
}

#[test]
fn an_edge_signs_a_token_only_beside_a_notifier_of_its_machine() {
    let dir = data();
    fs::remove_file(dir.path().join("secrets/edge.token")).expect("removed");
    let arguments = on_free_ports("edge", dir.path());
    for (url, expected) in [
        ("http://127.0.0.1:1", 0),
        ("http://localhost:1,https://[::1]:1", 0),
        ("https://192.0.2.1:1", 2),
        ("http://127.0.0.1:1,https://192.0.2.1:1", 2),
    ] {
        let mut command = belfry(&["edge", "--check-config", "--notifier-url", url]);
        let (code, printed) = run(command.args(&arguments[1..]));
        assert_eq!(code, Some(expected), "{url}: {printed}");
        assert_eq!(printed.contains("edge.token"), expected == 2, "{printed}");
    }
}

#[test]
fn a_secret_that_the_group_of_the_process_reads_is_accepted() {
    let dir = data();
    let key = dir.path().join("secrets/services.key");
    let arguments = on_free_ports("notifier", dir.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for (mode, expected) in [(0o440, Some(0)), (0o444, Some(2)), (0o660, Some(2))] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("mode");
        let (code, printed) = run(belfry(&arguments).arg("--check-config"));
        assert_eq!(code, expected, "{mode:o}: {printed}");
    }
}
