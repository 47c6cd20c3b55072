//! What a directory source says over time: all of it, then `Ready`, then what moved; never anything wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot write its files has failed")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use proto::Object;
use tempfile::{TempDir, tempdir};
use tokio::{
    sync::{mpsc, watch as latest},
    task::JoinHandle,
    time::timeout,
};
use translate::Change;
use watch::{Complaint, DirectorySource, Source, Update};

/// Long enough for any machine; reached only by a test that fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// A source that runs, and the state of the world by what it has said.
struct Following {
    updates: mpsc::Receiver<Update>,
    complaints: latest::Receiver<Vec<String>>,
    /// The label `v` of each object, by its name.
    versions: BTreeMap<String, String>,
    ready: bool,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Following {
    /// Follows `root`. It is never polled, so what is seen was told by the alarm.
    async fn new(root: &Path) -> Self {
        Self::polled(root, Duration::from_hours(1)).await
    }

    async fn polled(root: &Path, poll: Duration) -> Self {
        let mut following = Self::unready(root, poll);
        while !following.ready {
            following.hear().await;
        }
        following
    }

    /// Follows `root` and has heard nothing yet.
    fn unready(root: &Path, poll: Duration) -> Self {
        let (sender, updates) = mpsc::channel(1);
        let (tell, complaints) = latest::channel(Vec::new());
        let source = DirectorySource::new(root).polled_every(poll).on_complaints(move |complaints| {
            tell.send_replace(complaints.iter().map(Complaint::to_string).collect());
        });
        let task = tokio::spawn(async move {
            let _ = source.run(sender).await;
        });
        Self { updates, complaints, versions: BTreeMap::new(), ready: false, task }
    }

    async fn hear(&mut self) {
        let update = timeout(DEADLINE, self.updates.recv()).await;
        assert!(update.is_ok(), "nothing more was said after {:?}", self.versions);
        match update.unwrap().unwrap() {
            Update::Ready => assert!(!std::mem::replace(&mut self.ready, true), "ready twice"),
            Update::Changes(changes) => changes.into_iter().for_each(|change| self.apply(change)),
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(object) => {
                let version = version_of(&object);
                let old = self.versions.insert(object.reference().to_string(), version.clone());
                assert_ne!(old, Some(version), "{} was said again", object.reference());
            }
            Change::Remove(reference) => {
                let old = self.versions.remove(&reference.to_string());
                assert!(old.is_some(), "{reference} was removed and is not there");
            }
            Change::Keys(source, _) => panic!("a directory has no keys of {source}"),
            Change::Hindered(gateway, _) => panic!("a directory hinders nothing of {gateway}"),
            Change::Missing(object, _) => panic!("a directory tells of all: {object}"),
            Change::Seen(seen) => panic!("a directory has no proxies: {seen:?}"),
        }
    }

    /// Waits until the world is `expected`.
    async fn until(&mut self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(name, v)| (format!("Namespace {name}"), (*v).to_owned())).collect();
        let start = Instant::now();
        while self.versions != expected {
            assert!(start.elapsed() < DEADLINE, "{:?} instead of {expected:?}", self.versions);
            self.hear().await;
        }
    }

    /// Waits for exactly one complaint, which holds `part`; for none if `part` is empty.
    async fn until_complaint(&mut self, part: &str) {
        let fits = |complaints: &Vec<String>| match complaints.as_slice() {
            [] => part.is_empty(),
            [one] => !part.is_empty() && one.contains(part),
            _ => false,
        };
        let met = timeout(DEADLINE, self.complaints.wait_for(fits)).await.is_ok();
        assert!(met, "no complaint with {part:?}: {:?}", *self.complaints.borrow());
    }
}

fn version_of(object: &Object) -> String {
    object.metadata().labels.as_ref().and_then(|labels| labels.get("v")).cloned().unwrap_or_default()
}

fn namespace(name: &str, version: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{v: \"{version}\"}}}}\n---\n"
    )
}

fn write(root: &TempDir, name: &str, text: &str) {
    fs::write(root.path().join(name), text).unwrap();
}

#[tokio::test]
async fn an_empty_directory_is_ready_and_a_missing_one_is_an_error() {
    let root = tempdir().unwrap();
    let following = Following::new(root.path()).await;
    assert!(following.versions.is_empty());
    let (sender, _updates) = mpsc::channel(1);
    let missing = DirectorySource::new(root.path().join("missing")).run(sender);
    let error = timeout(DEADLINE, missing).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("create it"), "{error}");
}

/// A file that cannot be read at a start may hold a policy that denies.
#[tokio::test]
async fn a_start_is_not_ready_before_every_manifest_can_be_read() {
    let root = tempdir().unwrap();
    write(&root, "a.yaml", &namespace("a", "1"));
    write(&root, "b.yaml", "kind: [Namespace");
    let mut following = Following::unready(root.path(), Duration::from_hours(1));
    following.until(&[("a", "1")]).await;
    following.until_complaint("b.yaml").await;
    write(&root, "a.yaml", &namespace("a", "2"));
    following.until(&[("a", "2")]).await;
    assert!(!following.ready, "ready while a manifest cannot be read");
    write(&root, "b.yaml", &namespace("b", "1"));
    following.until(&[("a", "2"), ("b", "1")]).await;
    while !following.ready {
        following.hear().await;
    }
    write(&root, "b.yaml", "kind: [Namespace");
    following.until_complaint("b.yaml").await;
}

#[tokio::test]
async fn everything_comes_before_ready_and_then_what_moved() {
    let root = tempdir().unwrap();
    write(&root, "a.yaml", &(namespace("a", "1") + &namespace("b", "1")));
    let mut following = Following::new(root.path()).await;
    assert_eq!(following.versions.len(), 2);
    write(&root, "a.yaml", &(namespace("a", "1") + &namespace("b", "2")));
    following.until(&[("a", "1"), ("b", "2")]).await;
    write(&root, "c.yaml", &namespace("c", "1"));
    following.until(&[("a", "1"), ("b", "2"), ("c", "1")]).await;
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    following.until(&[("c", "1")]).await;
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let root = tempdir().unwrap();
    let (sender, mut updates) = mpsc::channel(1);
    let task = tokio::spawn(DirectorySource::new(root.path()).run(sender));
    assert_eq!(timeout(DEADLINE, updates.recv()).await.unwrap(), Some(Update::Ready));
    drop(updates);
    timeout(DEADLINE, task).await.unwrap().unwrap().unwrap_err();
}

#[tokio::test]
async fn a_file_that_is_replaced_by_renaming_is_seen() {
    let root = tempdir().unwrap();
    write(&root, "a.yaml", &namespace("a", "1"));
    let mut following = Following::new(root.path()).await;
    write(&root, ".a.yaml.tmp", &namespace("a", "2"));
    fs::rename(root.path().join(".a.yaml.tmp"), root.path().join("a.yaml")).unwrap();
    following.until(&[("a", "2")]).await;
}

#[tokio::test]
async fn a_mounted_config_map_that_is_swapped_is_seen() {
    let root = tempdir().unwrap();
    // As the kubelet writes it: a directory per version, one link to it, and a link for each name.
    let mount = |version: &str| {
        let data = root.path().join(format!("..{version}"));
        fs::create_dir_all(data.join("sub")).unwrap();
        fs::write(data.join("a.yaml"), namespace("a", version)).unwrap();
        fs::write(data.join("sub/b.yaml"), namespace("b", version)).unwrap();
        symlink(format!("..{version}"), root.path().join("..data_tmp")).unwrap();
        fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).unwrap();
    };
    mount("1");
    symlink("..data/a.yaml", root.path().join("a.yaml")).unwrap();
    symlink("..data/sub", root.path().join("sub")).unwrap();
    let mut following = Following::new(root.path()).await;
    following.until(&[("a", "1"), ("b", "1")]).await;
    for version in ["2", "3"] {
        mount(version);
        following.until(&[("a", version), ("b", version)]).await;
    }
    fs::remove_dir_all(root.path().join("..1")).unwrap();
    fs::remove_dir_all(root.path().join("..2")).unwrap();
    write(&root, "c.yaml", &namespace("c", "1"));
    following.until(&[("a", "3"), ("b", "3"), ("c", "1")]).await;
}

#[tokio::test]
async fn subdirectories_come_and_go() {
    let root = tempdir().unwrap();
    let mut following = Following::new(root.path()).await;
    let sub = root.path().join("team/app");
    fs::create_dir_all(&sub).unwrap();
    fs::write(sub.join("a.yaml"), namespace("a", "1")).unwrap();
    following.until(&[("a", "1")]).await;
    fs::write(sub.join("a.yaml"), namespace("a", "2")).unwrap();
    following.until(&[("a", "2")]).await;
    fs::remove_dir_all(root.path().join("team")).unwrap();
    following.until(&[]).await;
    fs::create_dir_all(&sub).unwrap();
    fs::write(sub.join("a.yaml"), namespace("a", "3")).unwrap();
    following.until(&[("a", "3")]).await;
}

#[tokio::test]
async fn rapid_edits_of_the_same_length_end_in_the_last_one() {
    let root = tempdir().unwrap();
    let mut following = Following::new(root.path()).await;
    for round in 0..20 {
        for edit in 100..150 {
            write(&root, "a.yaml", &namespace("a", &format!("{round}-{edit}")));
            if edit % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        following.until(&[("a", &format!("{round}-149"))]).await;
    }
}

#[tokio::test]
async fn a_link_to_a_file_elsewhere_is_polled() {
    let (root, elsewhere) = (tempdir().unwrap(), tempdir().unwrap());
    write(&elsewhere, "a.yaml", &namespace("a", "1"));
    symlink(elsewhere.path().join("a.yaml"), root.path().join("a.yaml")).unwrap();
    let mut following = Following::polled(root.path(), Duration::from_millis(50)).await;
    write(&elsewhere, "a.yaml", &namespace("a", "2"));
    following.until(&[("a", "2")]).await;
}

#[tokio::test]
async fn a_document_that_cannot_be_read_keeps_its_object_and_no_other() {
    let root = tempdir().unwrap();
    write(&root, "a.yaml", &(namespace("a", "1") + &namespace("b", "1") + &namespace("c", "1")));
    let mut following = Following::new(root.path()).await;
    let bad = "apiVersion: v1\nkind: Namespace\nmetadata: {name: b, labels: 7}\n---\n";
    write(&root, "a.yaml", &(namespace("a", "2") + bad));
    following.until(&[("a", "2"), ("b", "1")]).await;
    following.until_complaint("a.yaml document 2 (Namespace b): metadata.labels: ").await;
    let unsupported = "apiVersion: v7\nkind: Namespace\nmetadata: {name: b}\n---\n";
    write(&root, "a.yaml", &(namespace("a", "3") + unsupported));
    following.until(&[("a", "3"), ("b", "1")]).await;
    following.until_complaint("(Namespace b): Namespace \"v7\" is not supported; use \"v1\"").await;
    write(&root, "a.yaml", &namespace("a", "4"));
    following.until(&[("a", "4")]).await;
    following.until_complaint("").await;
}

#[tokio::test]
async fn a_file_that_does_not_parse_keeps_its_objects_until_it_does() {
    let root = tempdir().unwrap();
    write(&root, "a.yaml", &(namespace("a", "1") + &namespace("b", "1")));
    write(&root, "z.yaml", &namespace("z", "1"));
    let mut following = Following::new(root.path()).await;
    write(&root, "a.yaml", &(namespace("a", "2") + "metadata: {name: [b\n"));
    write(&root, "z.yaml", &namespace("z", "2"));
    following.until(&[("a", "2"), ("b", "1"), ("z", "2")]).await;
    following.until_complaint("a.yaml document 2: line ").await;
    fs::write(root.path().join("a.yaml"), b"\xff\xfe").unwrap();
    following.until_complaint("a.yaml: byte 0 is not UTF-8").await;
    write(&root, "z.yaml", &namespace("z", "3"));
    following.until(&[("a", "2"), ("b", "1"), ("z", "3")]).await;
    write(&root, "a.yaml", &(namespace("a", "3") + "---\n" + &namespace("b", "3")));
    following.until(&[("a", "3"), ("b", "3"), ("z", "3")]).await;
    following.until_complaint("").await;
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    following.until(&[("z", "3")]).await;
}

#[tokio::test]
async fn a_file_that_was_just_emptied_is_being_written() {
    let root = tempdir().unwrap();
    write(&root, "a.yaml", &namespace("a", "1"));
    let mut following = Following::new(root.path()).await;
    write(&root, "a.yaml", "");
    write(&root, "z.yaml", &namespace("z", "1"));
    following.until(&[("a", "1"), ("z", "1")]).await;
    write(&root, "a.yaml", &namespace("a", "2"));
    following.until(&[("a", "2"), ("z", "1")]).await;
    // Left empty, it means what it says.
    write(&root, "a.yaml", "");
    following.until(&[("z", "1")]).await;
}

#[tokio::test]
async fn the_second_of_two_objects_takes_over_when_the_first_goes() {
    let root = tempdir().unwrap();
    write(&root, "b.yaml", &namespace("web", "b"));
    let mut following = Following::new(root.path()).await;
    write(&root, "a.yaml", &namespace("web", "a"));
    following.until(&[("web", "a")]).await;
    following.until_complaint("b.yaml document 1 (Namespace web): the object is also in ").await;
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    following.until(&[("web", "b")]).await;
    following.until_complaint("").await;
}

#[tokio::test]
async fn a_directory_that_vanishes_keeps_what_it_said_and_is_followed_when_it_returns() {
    let base = tempdir().unwrap();
    let (root, away) = (base.path().join("manifests"), base.path().join("away"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), namespace("a", "1")).unwrap();
    let mut following = Following::polled(&root, Duration::from_millis(50)).await;
    fs::rename(&root, &away).unwrap();
    following.until_complaint("the directory can no longer be read, what it held last stays in force").await;
    assert_eq!(following.versions.len(), 1);
    fs::create_dir(away.join("new")).unwrap();
    fs::write(away.join("new/a.yaml"), namespace("a", "2")).unwrap();
    fs::rename(away.join("new"), &root).unwrap();
    following.until(&[("a", "2")]).await;
    following.until_complaint("").await;
}
