//! Changes of all kinds are seen, and a bad content replaces nothing.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Watched {
    dir: tempfile::TempDir,
    path: PathBuf,
    content: watch::Receiver<String>,
    reload: watch::Sender<()>,
    watcher: FileWatcher,
}

/// A file whose content may be anything but `bad`.
fn watched() -> Watched {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "first").unwrap();
    let (reload, reloads) = watch::channel(());
    let watcher = FileWatcher::start(reloads);
    let (sender, content) = watch::channel("first".to_owned());
    let from = path.clone();
    let load = move || {
        let new = fs::read_to_string(&from)?;
        if new == "bad" {
            return Err("it is bad".into());
        }
        let changed = sender.send_if_modified(|old| {
            let changed = *old != new;
            old.clone_from(&new);
            changed
        });
        Ok(changed.then(|| format!("{} bytes", new.len())))
    };
    watcher.watch("test", vec![path.clone()], load).unwrap();
    Watched {
        dir,
        path,
        content,
        reload,
        watcher,
    }
}

impl Watched {
    async fn becomes(&mut self, expected: &str) {
        let seen = self.content.wait_for(|content| content == expected);
        tokio::time::timeout(Duration::from_secs(10), seen)
            .await
            .expect("within ten seconds")
            .unwrap();
    }

    async fn refusals_become(&self, expected: u64) {
        let mut counts = self.watcher.counts.clone();
        let seen =
            counts.wait_for(|counts| counts.get("test").is_some_and(|c| c.refused == expected));
        tokio::time::timeout(Duration::from_secs(10), seen)
            .await
            .expect("within ten seconds")
            .unwrap();
    }
}

#[tokio::test]
async fn a_rewritten_and_a_renamed_file_are_read_again() {
    let mut watched = watched();
    fs::write(&watched.path, "second").unwrap();
    watched.becomes("second").await;
    let aside = watched.dir.path().join("aside");
    fs::write(&aside, "third!").unwrap();
    fs::rename(&aside, &watched.path).unwrap();
    watched.becomes("third!").await;
    assert_eq!(watched.watcher.counts()["test"].refused, 0);
}

#[tokio::test]
async fn a_bad_content_is_counted_and_the_one_before_stays() {
    let mut watched = watched();
    fs::write(&watched.path, "bad").unwrap();
    watched.refusals_become(1).await;
    assert_eq!(*watched.content.borrow(), "first");
    fs::remove_file(&watched.path).unwrap();
    watched.refusals_become(2).await;
    fs::write(&watched.path, "good").unwrap();
    watched.becomes("good").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_for_once_is_tried_again_without_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "good").unwrap();
    let (_reload, reloads) = watch::channel(());
    let watcher = FileWatcher::start(reloads);
    let (attempts, mut seen) = watch::channel(0);
    let load = move || {
        attempts.send_modify(|attempts| *attempts += 1);
        match *attempts.borrow() {
            1 | 2 => Err("busy".into()),
            _ => Ok(Some("taken".to_owned())),
        }
    };
    watcher.watch("test", vec![path], load).unwrap();
    seen.wait_for(|attempts| *attempts == 3).await.unwrap();
    let mut counts = watcher.counts.clone();
    let taken = counts.wait_for(|counts| counts.get("test").is_some_and(|c| c.replaced == 1));
    assert_eq!(taken.await.unwrap()["test"].refused, 1);
}

#[tokio::test]
async fn a_signal_reads_everything_again_at_once() {
    let mut watched = watched();
    fs::write(&watched.path, "bad").unwrap();
    watched.refusals_become(1).await;
    watched.reload.send_replace(());
    watched.refusals_become(2).await;
    fs::write(&watched.path, "good").unwrap();
    watched.reload.send_replace(());
    watched.becomes("good").await;
}

#[test]
fn a_new_mode_is_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "text").unwrap();
    let before = Stamp::of(&path);
    assert_eq!(before, Stamp::of(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(before, Stamp::of(&path));
}
