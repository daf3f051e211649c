//! Prints where everything is: for people, or as one line of JSON for programs.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use serde::Serialize;

use super::process::colours;

/// What is bound. No `Debug`: the dashboard's address may hold a key.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Addresses {
    /// The page to open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dashboard: Option<String>,
    /// Gets a token of any user from the edge; also in the dashboard's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dev_key: Option<String>,
    /// For browsers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ws: Option<String>,
    /// For services: host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grpc: Option<String>,
    /// For uploads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) processors: Option<String>,
    /// Health and metrics of the notifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notifier_http: Option<String>,
    /// Where everything is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_dir: Option<PathBuf>,
    /// The notifier's gRPC is in TLS.
    #[serde(skip)]
    pub(super) secure: bool,
}

impl Addresses {
    /// One line of JSON on stdout, or lines for people.
    pub(super) fn print(&self, json: bool) {
        let mut out = io::stdout().lock();
        // Nobody reads stdout: no reason not to serve.
        let _ = if json {
            let line = serde_json::to_string(self).expect("addresses are plain strings");
            writeln!(out, "{line}")
        } else {
            self.for_people(colours(&io::stdout()), &mut out)
        };
        let _ = out.flush();
    }

    fn for_people(&self, colour: bool, out: &mut impl Write) -> io::Result<()> {
        let (bold, dim, end) = if colour {
            ("\x1b[1;36m", "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let data = self.data_dir.as_ref().map(|dir| dir.display().to_string());
        let rows = [
            ("dashboard", &self.dashboard),
            ("websocket", &self.ws),
            ("gRPC", &self.grpc),
            ("processors", &self.processors),
            ("notifier", &self.notifier_http),
            ("data", &data),
        ];
        writeln!(out)?;
        for (name, value) in rows {
            if let Some(value) = value {
                writeln!(out, "  {dim}{name:<11}{end}{bold}{value}{end}")?;
            }
        }
        if self.dev_key.is_some() {
            writeln!(
                out,
                "\n  {dim}development tokens are on: whoever has the dashboard's address signs in as anyone{end}"
            )?;
        }
        if self.dashboard.is_some()
            && let (Some(grpc), Some(dir)) = (&self.grpc, &data)
        {
            let belfry = called();
            writeln!(out, "\n  {dim}notify the user `demo`:{end}")?;
            let scheme = if self.secure { "https" } else { "http" };
            writeln!(
                out,
                "  {}",
                publish_line(&belfry, &format!("{scheme}://{grpc}"), dir)
            )?;
            writeln!(out, "\n  {dim}the same from any language:{end}")?;
            let plain = if self.secure { "" } else { "-plaintext " };
            writeln!(out, "  {}", grpcurl_line(&belfry, plain, grpc, dir))?;
        }
        writeln!(out)
    }
}

/// How this program was called, so that the lines below can be copied.
fn called() -> String {
    let name = std::env::args().next().unwrap_or_default();
    if name.contains('/') && !name.contains(char::is_whitespace) {
        name
    } else {
        "belfry".to_owned()
    }
}

fn publish_line(belfry: &str, notifier: &str, dir: &str) -> String {
    format!(
        "{belfry} publish status --user demo --update-type greeting --resource you --status hello \
         --notifier-url {notifier} --data-dir {dir}"
    )
}

fn grpcurl_line(belfry: &str, plain: &str, grpc: &str, dir: &str) -> String {
    format!(
        "grpcurl {plain}-H \"authorization: Bearer $({belfry} token service me --role publisher \
         --events '*' --targets '*' --data-dir {dir})\" -d '{{\"user_id\":\"demo\",\"event\":\
         {{\"status_update\":{{\"update_type\":\"greeting\",\"resource\":\"you\",\
         \"status\":\"hello\"}}}}}}' {grpc} belfry.v1.Notifier/Publish"
    )
}

/// An address that can be connected to: `0.0.0.0` is everywhere and nowhere.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Addresses {
        Addresses {
            dashboard: Some("http://127.0.0.1:1/#key=k".into()),
            dev_key: Some("k".into()),
            ws: Some("ws://127.0.0.1:1/ws".into()),
            grpc: Some("127.0.0.1:2".into()),
            processors: Some("http://127.0.0.1:3".into()),
            notifier_http: Some("http://127.0.0.1:4".into()),
            data_dir: Some("/d".into()),
            secure: false,
        }
    }

    #[test]
    fn programs_get_one_line_with_the_names_they_know() {
        let line = serde_json::to_string(&all()).unwrap();
        assert_eq!(
            line,
            r#"{"dashboard":"http://127.0.0.1:1/#key=k","devKey":"k","ws":"ws://127.0.0.1:1/ws","grpc":"127.0.0.1:2","processors":"http://127.0.0.1:3","notifierHttp":"http://127.0.0.1:4","dataDir":"/d"}"#
        );
        let edge = Addresses {
            grpc: None,
            data_dir: None,
            ..all()
        };
        assert!(!serde_json::to_string(&edge).unwrap().contains("grpc"));
    }

    #[test]
    fn people_get_lines_to_copy_and_colours_only_if_wanted() {
        let mut plain = Vec::new();
        all().for_people(false, &mut plain).unwrap();
        let plain = String::from_utf8(plain).unwrap();
        assert!(plain.contains(" publish status --user demo"), "{plain}");
        assert!(
            plain.contains("grpcurl -plaintext") && !plain.contains('\x1b'),
            "{plain}"
        );
    }

    #[test]
    fn everywhere_is_shown_as_here() {
        assert_eq!(
            reachable("0.0.0.0:8080".parse().unwrap()).to_string(),
            "127.0.0.1:8080"
        );
        assert_eq!(
            reachable("[::]:8080".parse().unwrap()).to_string(),
            "[::1]:8080"
        );
        assert_eq!(
            reachable("10.0.0.1:1".parse().unwrap()).to_string(),
            "10.0.0.1:1"
        );
    }
}
