//! The files that say who a proxy is: its token and our root certificate, in a directory that Envoy watches.

use std::path::{Path, PathBuf};

use proto::envoy::{self, core, discovery::DiscoveryResponse, tls};

use crate::state::{self, Readable};

/// The secret that holds the bearer token.
pub(super) const TOKEN_SECRET: &str = "token";
/// The secret that holds the root certificate we are verified by.
pub(super) const ROOT_SECRET: &str = "root";

/// The directory of the files of a waypoint's proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyFiles {
    // Absolute and UTF-8: a bootstrap is JSON, and Envoy may run in another directory.
    /// Where the token and the root certificate are.
    directory: String,
    /// Where the files are that say so to Envoy.
    secrets: String,
}

/// Why the files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A bootstrap can only name paths that are text.
    #[error("the path {0:?} is not UTF-8, so no Envoy bootstrap can name it; choose another state directory")]
    NotText(PathBuf),
    /// The disk says no.
    #[error("cannot write {path:?}: {source}")]
    Write {
        /// What was to be written.
        path: String,
        /// Why it was not.
        source: std::io::Error,
    },
    /// A secret could not be printed.
    #[error(transparent)]
    Render(#[from] proto::RenderError),
}

impl ProxyFiles {
    /// The files in `directory`, an absolute path.
    pub fn new(directory: &Path) -> Result<Self, FileError> {
        let text = directory.to_str().ok_or_else(|| FileError::NotText(directory.to_owned()))?;
        Ok(Self { directory: text.to_owned(), secrets: text.to_owned() })
    }

    /// The files of a pod, in two volumes of its own: `secrets` is what [`ProxyFiles::secrets`] says.
    pub fn mounted(directory: &str, secrets: &str) -> Self {
        Self { directory: directory.to_owned(), secrets: secrets.to_owned() }
    }

    /// The files that name the token and the root certificate to Envoy, by their own names.
    pub fn secrets(&self) -> Result<[(String, Vec<u8>); 2], FileError> {
        Ok([
            (file_of(ROOT_SECRET), discovery(&self.root_secret())?),
            (file_of(TOKEN_SECRET), discovery(&self.token_secret())?),
        ])
    }

    /// Writes all of them, each whole. A proxy that runs takes the new token for its next stream.
    ///
    /// `token` is what the proxy shows us, `root_pem` the certificate that ours is issued by.
    pub fn write(&self, token: &str, root_pem: &str) -> Result<(), FileError> {
        self.make_directory()?;
        self.replace("root.pem", root_pem.as_bytes(), Readable::Everyone)?;
        self.replace("token", token.as_bytes(), Readable::Owner)?;
        // Last, because Envoy reads both again when anything is moved into the directory.
        for (name, content) in self.secrets()? {
            self.replace(&name, &content, Readable::Everyone)?;
        }
        Ok(())
    }

    /// How a bootstrap refers to one of the secrets.
    pub(super) fn secret_config(&self, name: &str) -> tls::SdsSecretConfig {
        let source = core::PathConfigSource {
            path: format!("{}/{}", self.secrets, file_of(name)),
            watched_directory: Some(watched(&self.secrets)),
            ..core::PathConfigSource::default()
        };
        tls::SdsSecretConfig {
            name: name.to_owned(),
            sds_config: Some(core::ConfigSource {
                resource_api_version: core::ApiVersion::V3.into(),
                config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::PathConfigSource(
                    source,
                )),
                ..core::ConfigSource::default()
            }),
        }
    }

    fn token_secret(&self) -> tls::Secret {
        let token = tls::GenericSecret { secret: Some(self.file("token")), ..tls::GenericSecret::default() };
        tls::Secret { name: TOKEN_SECRET.to_owned(), r#type: Some(tls::secret::Type::GenericSecret(token)) }
    }

    fn root_secret(&self) -> tls::Secret {
        let root = tls::CertificateValidationContext {
            trusted_ca: Some(self.file("root.pem")),
            watched_directory: Some(watched(&self.directory)),
            ..tls::CertificateValidationContext::default()
        };
        tls::Secret { name: ROOT_SECRET.to_owned(), r#type: Some(tls::secret::Type::ValidationContext(root)) }
    }

    fn file(&self, name: &str) -> core::DataSource {
        core::DataSource {
            specifier: Some(core::data_source::Specifier::Filename(self.path(name))),
            watched_directory: Some(watched(&self.directory)),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn make_directory(&self) -> Result<(), FileError> {
        state::create_directory(Path::new(&self.directory))
            .map_err(|source| FileError::Write { path: self.directory.clone(), source })
    }

    fn replace(&self, name: &str, content: &[u8], readable: Readable) -> Result<(), FileError> {
        let path = self.path(name);
        state::replace_file(Path::new(&path), content, readable)
            .map_err(|source| FileError::Write { path, source })
    }
}

fn watched(directory: &str) -> core::WatchedDirectory {
    core::WatchedDirectory { path: directory.to_owned(), ..core::WatchedDirectory::default() }
}

fn file_of(secret: &str) -> String {
    format!("sds-{secret}.yaml")
}

/// A secret as Envoy reads it from a file: a discovery response. JSON is YAML too.
fn discovery(secret: &tls::Secret) -> Result<Vec<u8>, FileError> {
    let response = DiscoveryResponse { resources: vec![envoy::pack(secret)], ..Default::default() };
    let json = proto::render_any(&envoy::pack(&response))?;
    Ok(format!("{json:#}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn minting_again_replaces_the_token_and_the_token_is_for_the_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("proxies/default/waypoint");
        let files = ProxyFiles::new(&directory).unwrap();
        for token in ["first", "second"] {
            files.write(token, "root").unwrap();
            // Exactly the token: a line break after it would break the header that it becomes.
            assert_eq!(fs::read_to_string(directory.join("token")).unwrap(), token);
        }
        assert_eq!(fs::metadata(directory.join("token")).unwrap().permissions().mode() & 0o777, 0o600);
        let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["root.pem", "sds-root.yaml", "sds-token.yaml", "token"]);
    }

    #[test]
    fn a_secret_file_refers_to_the_file_beside_it() {
        let state = tempfile::tempdir().unwrap();
        let files = ProxyFiles::new(state.path()).unwrap();
        files.write("token", "root").unwrap();
        let text = fs::read_to_string(state.path().join("sds-token.yaml")).unwrap();
        let secret = &serde_saphyr::from_str::<Value>(&text).unwrap()["resources"][0];
        assert_eq!(secret["name"], "token");
        let file = &secret["generic_secret"]["secret"];
        assert_eq!(file["filename"], json!(state.path().join("token")));
        assert_eq!(file["watched_directory"]["path"], json!(state.path()));
    }
}
