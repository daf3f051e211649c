//! Secrets of the processors: of links to files and of Typeform's webhook, two at a time.

use std::{fs, io::Cursor};

use aws_lc_rs::hmac;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use image::{ImageFormat, Rgb, RgbImage};
use reqwest::{
    Client, StatusCode,
    multipart::{Form, Part},
};
use serde_json::Value;

use super::{forget_previous, rotate};
use crate::world::{Process, World, wait_for};

/// A user of the processors.
struct Uploader<'a> {
    http: Client,
    world: &'a World,
    url: String,
}

impl Uploader<'_> {
    /// Uploads a picture and waits until it is there.
    async fn upload(&self) -> String {
        let mut file = Cursor::new(Vec::new());
        let picture = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, 0]));
        let written = picture.write_to(&mut file, ImageFormat::Png);
        written.expect("written");
        let part = Part::bytes(file.into_inner()).file_name("x.png");
        let post = self.http.post(format!("{}/images", self.url));
        let post = post.bearer_auth(self.world.user_token("u1"));
        let answer = post.multipart(Form::new().part("file", part)).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let answer: Value = answer.json().await.expect("JSON");
        let id = answer["documentId"].as_str().expect("an id").to_owned();
        let link = async || self.link(&id).await;
        wait_for("the picture", link, Option::is_some).await;
        id
    }

    /// The link to a picture as the list has it now.
    async fn link(&self, id: &str) -> Option<String> {
        let get = self.http.get(format!("{}/images/{id}", self.url));
        let get = get.bearer_auth(self.world.user_token("u1"));
        let document: Value = get.send().await.ok()?.json().await.ok()?;
        Some(document["signedUrl"].as_str()?.to_owned())
    }

    async fn opens(&self, link: &str) -> bool {
        let answer = self.http.get(link).send().await.expect("an answer");
        let status = answer.status();
        assert!(matches!(status.as_u16(), 200 | 403), "{status}");
        status == StatusCode::OK
    }

    /// Whether a delivery that is signed with this secret is taken.
    async fn takes(&self, secret: &str) -> bool {
        let body = r#"{"event_id":"e","event_type":"another"}"#;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = BASE64_STANDARD.encode(hmac::sign(&key, body.as_bytes()));
        let post = self.http.post(format!("{}/webhooks/typeform", self.url));
        let post = post.header("typeform-signature", format!("sha256={signature}"));
        let answer = post.body(body).send().await.expect("an answer");
        let status = answer.status();
        assert!(matches!(status.as_u16(), 200 | 401), "{status}");
        status == StatusCode::OK
    }
}

fn uploader<'a>(world: &'a World, up: &Process) -> Uploader<'a> {
    Uploader {
        http: Client::new(),
        world,
        url: up.address("processors"),
    }
}

/// Whether this secret made a link.
fn is_signed_with(link: &str, secret: &[u8]) -> bool {
    let (path, query) = link.split_once("?exp=").expect("an expiry");
    let (expiry, signature) = query.split_once("&sig=").expect("a signature");
    let (_, file) = path.split_once("/files/").expect("a file");
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("file\n{expiry}\n{file}").as_bytes());
    signature == BASE64_URL_SAFE_NO_PAD.encode(tag)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_the_secret_before_open_until_it_is_removed() {
    let world = World::new();
    let up = world.up();
    let user = uploader(&world, &up);
    let picture = user.upload().await;
    let link = async || user.link(&picture).await.expect("a link");
    let old = link().await;
    assert!(user.opens(&old).await);

    rotate(&world, "files.key", "second");
    let second = world.secret("files.key");
    let is_new = |link: &String| is_signed_with(link, &second);
    let new = wait_for("a link of the new secret", link, is_new).await;
    assert!(!is_signed_with(&old, &second));
    assert!(user.opens(&new).await && user.opens(&old).await);

    forget_previous(&world, "files.key");
    let old_opens = async || user.opens(&old).await;
    wait_for("the old link to be refused", old_opens, |opens| !opens).await;
    assert!(user.opens(&link().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_of_forms_are_taken_by_each_secret_that_is_listed() {
    let world = World::new();
    let file = world.dir().join("typeform.secrets");
    let write = |lines: &str| {
        let aside = world.dir().join("aside");
        fs::write(&aside, lines).expect("written");
        fs::rename(&aside, &file).expect("renamed");
    };
    write("the-first-secret-of-the-form\n");
    let path = file.display().to_string();
    let up = world.up_with(&["--typeform-secret-file", &path]);
    let forms = uploader(&world, &up);
    let (first, second) = (
        "the-first-secret-of-the-form",
        "the-second-secret-of-the-form",
    );
    assert!(forms.takes(first).await && !forms.takes(second).await);

    write(&format!("{second}\n{first}\n"));
    up.send_sighup();
    let new = async || forms.takes(second).await;
    wait_for("the new secret", new, |taken| *taken).await;
    assert!(forms.takes(first).await);

    write(&format!("{second}\n"));
    up.send_sighup();
    let old = async || forms.takes(first).await;
    wait_for("the old secret to go", old, |taken| !taken).await;
    assert!(forms.takes(second).await);
}
