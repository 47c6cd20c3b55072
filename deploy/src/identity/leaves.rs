//! The certificates of the waypoints, kept so that a restart serves the same ones and sends nothing anew.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use translate::Audience;

use super::{Authority, IdentityError, Leaf, SpiffeId, file, spiffe::plain};

/// How long a waypoint's certificate is valid unless the operator says otherwise.
pub const LIFETIME: Duration = Duration::from_hours(24);

/// The certificates of the waypoints, on disk.
#[derive(Clone, Debug)]
pub struct Leaves {
    directory: PathBuf,
    lifetime: Duration,
}

impl Leaves {
    /// The certificates under the directory `state`. New ones are valid for `lifetime`.
    pub fn open(state: &Path, lifetime: Duration) -> Self {
        Self { directory: state.join("leaves"), lifetime }
    }

    /// How long new ones are valid.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The certificate of the waypoint `gateway` with the identity `id`: the one that is kept if it is
    /// still good and not due for renewal, else a new one, which is then kept.
    pub fn current(
        &self,
        authority: &Authority,
        gateway: &Audience,
        id: &SpiffeId,
        now: SystemTime,
    ) -> Result<Leaf, IdentityError> {
        let path = self.path_of(gateway)?;
        let is_good = |leaf: &Leaf| {
            leaf.uris() == [id.to_string()] && now < leaf.renew_at() && authority.recognizes(leaf, now)
        };
        if let Some(leaf) = read(&path)?.filter(is_good) {
            return Ok(leaf);
        }
        let leaf = authority.issue(id, self.lifetime, now)?;
        file::write_secret(&path, leaf.to_pem().as_bytes())?;
        Ok(leaf)
    }

    /// Forgets the certificate of a waypoint that is gone.
    pub fn forget(&self, gateway: &Audience) -> Result<(), IdentityError> {
        file::remove(&self.path_of(gateway)?)
    }

    fn path_of(&self, gateway: &Audience) -> Result<PathBuf, IdentityError> {
        // Names come from manifests: none may lead out of the directory.
        let namespace = plain("namespace", &gateway.namespace)?;
        let name = plain("gateway", &gateway.name)?;
        Ok(self.directory.join(&*namespace).join(format!("{name}.pem")))
    }
}

/// The leaf in a file. One that is damaged or was readable to others is only replaced: unlike the root,
/// nothing depends on having this one.
fn read(path: &Path) -> Result<Option<Leaf>, IdentityError> {
    let content = match file::read_secret(path) {
        Ok(None) => return Ok(None),
        Ok(Some(content)) => content,
        Err(error @ IdentityError::Exposed { .. }) => {
            tracing::warn!(%error, "the certificate is replaced");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match Leaf::parse(&String::from_utf8_lossy(&content)) {
        Ok(leaf) => Ok(Some(leaf)),
        Err(problem) => {
            tracing::warn!(?path, problem, "the certificate is replaced");
            Ok(None)
        }
    }
}
