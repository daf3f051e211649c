//! Which file is at which path, in which encoding, and what the page may connect to.

use super::*;

fn request(headers: &[(HeaderName, &str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn header_of<'a>(answer: &'a Answer, name: &HeaderName) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

fn config(processors_url: Option<&str>) -> PageConfig<'_> {
    PageConfig {
        ws_url: None,
        processors_url,
        dev_tokens: false,
    }
}

#[test]
fn nothing_outside_of_the_table_is_found() {
    for path in [
        "",
        "/web/",
        "/web/../Cargo.toml",
        "/web",
        "/dashboard",
        "/web/.js",
        "/web/dashboard.js.gz",
        "/web/dashboard.0123.js",
        "/js/../dashboard.js",
        "/web/dashboard.html",
    ] {
        assert!(find(path).is_none(), "{path}");
    }
}

#[test]
fn a_name_with_its_tag_is_kept_for_good_and_any_other_revalidated() {
    let (asset, _) = find("/web/dashboard.js").unwrap();
    let own = format!("/web/dashboard.{}.js", asset.tag);
    let page = Page::new(&config(None));
    let html = std::str::from_utf8(&page.identity).unwrap();
    assert!(
        html.contains(&own[1..]),
        "the page names the file by its tag"
    );
    assert!(!html.contains(r#""web/dashboard.js""#) && !html.contains(r#""/web/"#));
    let caching = |path: &str| {
        let answer = answer(path, &HeaderMap::new()).unwrap();
        header_of(&answer, &header::CACHE_CONTROL).to_owned()
    };
    assert_eq!(caching(&own), "public, max-age=31536000, immutable");
    assert_eq!(caching("/web/dashboard.js"), "no-cache");
    assert_eq!(caching("/web/dashboard.0123456789abcdef.js"), "no-cache");
}

#[test]
fn the_smallest_accepted_encoding_is_sent() {
    let get = |accepted: &str| {
        let headers = request(&[(header::ACCEPT_ENCODING, accepted)]);
        let answer = answer("/web/dashboard.js", &headers).unwrap();
        assert_eq!(header_of(&answer, &header::VARY), "accept-encoding");
        header_of(&answer, &header::CONTENT_ENCODING).to_owned()
    };
    for (accepted, sent) in [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1.0, br;q=0", "gzip"),
        ("GZIP", "gzip"),
        ("br;q=0.1", "br"),
        ("identity", ""),
        ("", ""),
    ] {
        assert_eq!(get(accepted), sent, "{accepted}");
    }
    let jpeg = answer(
        "/web/sample.jpg",
        &request(&[(header::ACCEPT_ENCODING, "gzip, br")]),
    );
    let jpeg = jpeg.unwrap();
    assert_eq!(
        header_of(&jpeg, &header::CONTENT_ENCODING),
        "",
        "it is compressed already"
    );
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let page = Page::new(&config(None));
    let accepted = (header::ACCEPT_ENCODING, "gzip, br");
    let fresh = request(std::slice::from_ref(&accepted));
    for answer in [
        answer("/js/websocket-client.js", &fresh).unwrap(),
        page.answer(&fresh),
    ] {
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(!header_of(&answer, &header::ETAG).is_empty());
    }
    let tag = header_of(&page.answer(&fresh), &header::ETAG).to_owned();
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".into(),
    ] {
        let again = page.answer(&request(&[
            accepted.clone(),
            (header::IF_NONE_MATCH, &known),
        ]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(header_of(&again, &header::CONTENT_ENCODING), "");
    }
    // Another encoding is another representation.
    let plain = page.answer(&request(&[(header::IF_NONE_MATCH, &tag)]));
    assert_eq!(plain.status(), StatusCode::OK);
}

#[test]
fn scripts_of_the_client_are_for_every_page_and_files_of_the_dashboard_are_not() {
    let client = answer("/js/websocket-client.js", &HeaderMap::new()).unwrap();
    assert_eq!(
        header_of(&client, &header::ACCESS_CONTROL_ALLOW_ORIGIN),
        "*"
    );
    assert_eq!(
        header_of(&client, &CROSS_ORIGIN_RESOURCE_POLICY),
        "cross-origin"
    );
    let own = answer("/web/dashboard.js", &HeaderMap::new()).unwrap();
    assert_eq!(header_of(&own, &header::ACCESS_CONTROL_ALLOW_ORIGIN), "");
}

#[test]
fn the_page_has_its_configuration_and_cannot_be_broken_by_it() {
    let hostile = r#"http://x"><script>alert(1)</script>&quot;"#;
    let page = Page::new(&config(Some(hostile)));
    let html = std::str::from_utf8(&page.identity).unwrap();
    assert!(!html.contains("<script>alert"), "{html}");
    assert!(html.contains("&quot;wsUrl&quot;:&quot;/ws&quot;"), "{html}");
    let policy = page.security_policy.to_str().unwrap();
    assert!(policy.contains("connect-src 'self';"), "{policy}");
}

#[test]
fn connections_are_to_named_hosts_and_no_address_adds_to_the_policy() {
    let named = PageConfig {
        ws_url: Some("wss://live.test:8443/ws"),
        processors_url: Some("http://127.0.0.1:1/base"),
        dev_tokens: false,
    };
    let policy = security_policy(&named);
    let policy = policy.to_str().unwrap();
    let expected =
        "connect-src 'self' wss://live.test:8443 https://live.test:8443 http://127.0.0.1:1;";
    assert!(policy.contains(expected), "{policy}");
    let pictures = "img-src 'self' data: blob: http://127.0.0.1:1;";
    assert!(policy.contains(pictures), "{policy}");
    for hostile in [
        "http://x; script-src *",
        "https://*",
        "http://a,b",
        "data://x",
    ] {
        let policy = security_policy(&config(Some(hostile)));
        assert!(
            policy.to_str().unwrap().contains("connect-src 'self';"),
            "{hostile}"
        );
    }
}
