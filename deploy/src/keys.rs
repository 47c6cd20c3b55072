//! The keys of issuers that are fetched: which are wanted, what is known of them, and the last good
//! ones on disk, so that a restart changes nothing and needs nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{info, warn};
use translate::{Change, Fetched, KeySet, KeySource, Origin};
use watch::{Told, Wish};

use crate::state::{Readable, create_directory, replace_file};

/// What is known of the keys that policies refer to.
#[derive(Debug)]
pub struct Keys {
    directory: PathBuf,
    known: BTreeMap<KeySource, Fetched>,
    wanted: BTreeSet<KeySource>,
    wishes: UnboundedSender<Wish>,
}

impl Keys {
    /// Reads what a process before us kept below the state directory. `wishes` go to whoever fetches.
    pub fn open(state: &Path, wishes: UnboundedSender<Wish>) -> Self {
        let directory = state.join("keys");
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match read(&entry.path()) {
                Ok((source, keys)) => {
                    known.insert(source, Fetched { keys: Some(keys), failure: None });
                }
                // They are fetched again.
                Err(error) => warn!(file = %entry.path().display(), "kept keys cannot be read: {error}"),
            }
        }
        Self { directory, known, wanted: BTreeSet::new(), wishes }
    }

    /// All that is known, as the mesh is told at a start.
    pub fn kept(&self) -> Vec<Change> {
        let known = self.known.iter();
        known.map(|(source, fetched)| Change::Keys(source.clone(), Some(fetched.clone()))).collect()
    }

    /// Takes what a commit says of the keys that are wanted.
    pub fn want(&mut self, wish: Wish) {
        for (source, timeout) in &wish {
            match timeout {
                Some(_) => self.wanted.insert(source.clone()),
                None => self.wanted.remove(source),
            };
        }
        if !wish.is_empty() {
            // Whoever fetches is gone only when everything is about to end.
            self.wishes.send(wish).ok();
        }
    }

    /// Takes what came of a fetch; the change that follows, if one does.
    pub fn told(&mut self, told: Told) -> Option<Change> {
        match told {
            Told::Fetched(source, outcome) => self.fetched(source, outcome),
            // Wanted again meanwhile, it is being fetched again too.
            Told::Forgotten(source) if self.wanted.contains(&source) => None,
            Told::Forgotten(source) => self.forget(source),
        }
    }

    /// Forgets what was kept and no policy refers to any more.
    pub fn forget_unwanted(&mut self) -> Vec<Change> {
        let unwanted: Vec<_> =
            self.known.keys().filter(|source| !self.wanted.contains(*source)).cloned().collect();
        unwanted.into_iter().filter_map(|source| self.forget(source)).collect()
    }

    fn fetched(&mut self, source: KeySource, outcome: Result<KeySet, String>) -> Option<Change> {
        let old = self.known.get(&source).cloned().unwrap_or_default();
        let new = match outcome {
            Ok(keys) => Fetched { keys: Some(keys), failure: None },
            // The last good ones stay.
            Err(failure) => Fetched { keys: old.keys.clone(), failure: Some(failure) },
        };
        if new == old {
            return None;
        }
        match &new.failure {
            None => info!(%source, "the keys are fetched"),
            Some(failure) => warn!(%source, kept = new.keys.is_some(), "no keys: {failure}"),
        }
        if let Some(keys) = new.keys.as_ref().filter(|keys| old.keys.as_ref() != Some(keys)) {
            let kept = create_directory(&self.directory)
                .and_then(|()| replace_file(&self.file(&source), &document(&source, keys), Readable::Owner));
            if let Err(error) = kept {
                warn!(%source, "the keys cannot be kept for the next start: {error}");
            }
        }
        self.known.insert(source.clone(), new.clone());
        Some(Change::Keys(source, Some(new)))
    }

    fn forget(&mut self, source: KeySource) -> Option<Change> {
        self.known.remove(&source)?;
        match fs::remove_file(self.file(&source)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%source, "kept keys cannot be removed: {error}");
            }
            Ok(()) | Err(_) => {}
        }
        Some(Change::Keys(source, None))
    }

    /// An address is no file name, and may be too long for one.
    fn file(&self, source: &KeySource) -> PathBuf {
        let name = digest::digest(&digest::SHA256, name_of(source).to_string().as_bytes());
        let name = URL_SAFE_NO_PAD.encode(&name.as_ref()[..16]);
        self.directory.join(format!("{name}.json"))
    }
}

fn name_of(source: &KeySource) -> Value {
    match source {
        KeySource::Uri(uri) => json!({"uri": uri}),
        KeySource::Issuer(issuer) => json!({"issuer": issuer}),
    }
}

fn document(source: &KeySource, keys: &KeySet) -> Vec<u8> {
    let mut document = name_of(source);
    document["jwks"] = keys.as_str().into();
    document.to_string().into_bytes()
}

/// Reads a file as strictly as what is fetched: somebody may have edited it.
fn read(path: &Path) -> Result<(KeySource, KeySet), String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let document: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let field = |name: &str| document[name].as_str().map(str::to_owned);
    let source = field("uri").map(KeySource::Uri).or_else(|| field("issuer").map(KeySource::Issuer));
    let source = source.ok_or("it does not say whose keys they are")?;
    let (keys, _) = KeySet::read(&field("jwks").unwrap_or_default(), Origin::Published)?;
    Ok((source, keys))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn source() -> KeySource {
        KeySource::Issuer("https://issuer.example".into())
    }

    fn keys(x: &str) -> KeySet {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": x.repeat(43)});
        KeySet::read(&json!({"keys": [key]}).to_string(), Origin::Published).unwrap().0
    }

    fn good(x: &str) -> Told {
        Told::Fetched(source(), Ok(keys(x)))
    }

    fn open(state: &Path) -> (Keys, mpsc::UnboundedReceiver<Wish>) {
        let (wish, wished) = mpsc::unbounded_channel();
        (Keys::open(state, wish), wished)
    }

    #[test]
    fn the_last_good_keys_outlive_a_failure_and_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let (mut keys_of, _) = open(state.path());
        keys_of.want(Wish::from([(source(), Some(TIMEOUT))]));
        let first = Fetched { keys: Some(keys("A")), failure: None };
        assert_eq!(keys_of.told(good("A")), Some(Change::Keys(source(), Some(first.clone()))));
        assert_eq!(keys_of.told(good("A")), None, "nothing new");
        let failed = Fetched { failure: Some("down".into()), ..first.clone() };
        let down = || Told::Fetched(source(), Err("down".into()));
        assert_eq!(keys_of.told(down()), Some(Change::Keys(source(), Some(failed))));
        assert_eq!(keys_of.told(down()), None, "down still");
        assert_eq!(open(state.path()).0.kept(), [Change::Keys(source(), Some(first))]);
    }

    #[test]
    fn what_is_forgotten_leaves_no_file_unless_it_is_wanted_again() {
        let state = tempfile::tempdir().unwrap();
        let (mut keys_of, mut wished) = open(state.path());
        keys_of.want(Wish::from([(source(), Some(TIMEOUT))]));
        assert_eq!(wished.try_recv(), Ok(Wish::from([(source(), Some(TIMEOUT))])));
        keys_of.told(good("A"));
        assert_eq!(keys_of.told(Told::Forgotten(source())), None, "it is wanted");
        keys_of.want(Wish::from([(source(), None)]));
        assert_eq!(keys_of.told(Told::Forgotten(source())), Some(Change::Keys(source(), None)));
        assert_eq!(open(state.path()).0.kept(), []);
    }

    #[test]
    fn what_was_kept_and_is_wanted_no_more_goes_at_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        open(state.path()).0.told(good("A"));
        fs::write(state.path().join("keys/garbage.json"), "{").unwrap();
        let (mut keys_of, _) = open(state.path());
        assert_eq!(keys_of.forget_unwanted(), [Change::Keys(source(), None)]);
        assert_eq!(open(state.path()).0.kept(), []);
    }
}
