//! The dashboard's files, embedded, and what a page of ours may do.

use hyper::header::HeaderValue;

/// Path below `web/` and bytes of every file that is served.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// An embedded file.
pub(super) struct File {
    /// What it holds.
    pub bytes: &'static [u8],
    /// Its media type.
    pub content_type: &'static str,
}

/// The file at a path: `/` is the dashboard, `/js/<name>` a script of the client's
/// package, `/web/<path>` any other; the dashboard's also without their folder.
pub(super) fn find(path: &str) -> Option<File> {
    let known = |name: &str| FILES.iter().find(|(known, _)| *known == name);
    let (name, bytes) = if path == "/" {
        known("dashboard/dashboard.html")?
    } else if let Some(name) = path.strip_prefix("/js/") {
        known(&format!("client/dist/{name}"))?
    } else {
        let name = path.strip_prefix("/web/")?;
        known(name).or_else(|| known(&format!("dashboard/{name}")))?
    };
    let content_type = match name.rsplit_once('.')?.1 {
        "css" => "text/css; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    };
    Some(File {
        bytes,
        content_type,
    })
}

/// Scripts and styles of our own only; pictures from wherever signed URLs point.
pub(super) fn security_policy(processors_url: Option<&str>) -> HeaderValue {
    let policy = |processors: &str| {
        format!(
            "default-src 'self'; connect-src 'self' ws: wss: {processors}; \
             img-src 'self' data: blob: http: https:; object-src 'none'; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'"
        )
    };
    // A URL that does not fit into a header is one that no browser could use.
    let clean = processors_url.filter(|url| !url.contains([';', ',', ' ']));
    HeaderValue::from_str(&policy(clean.unwrap_or_default()))
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'self'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_table_is_found() {
        for path in [
            "",
            "/web/",
            "/web/../Cargo.toml",
            "/web",
            "/dashboard",
            "/web/.js",
            "/js/",
            "/js/../src/limits.js",
            "/web/client/build.mjs",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_url_cannot_add_to_the_policy() {
        let policy = security_policy(Some("http://x; script-src *"));
        assert!(!policy.to_str().unwrap().contains("script-src"));
        assert!(
            security_policy(Some("http://127.0.0.1:1"))
                .to_str()
                .unwrap()
                .contains(":1;")
        );
    }
}
