//! The mesh configuration: what Istio's MeshConfig says that holds for every waypoint.

use std::collections::BTreeMap;

use proto::{Name, mesh_api};
use serde_json::Value;

use super::{
    ca_certificates::{self, Anchors},
    name::Key,
};
use crate::{
    derive::Row,
    fields::{Fields, Problems, kind},
    policy::extension_provider::{self, Provider},
    problem::{FieldPath, Problem},
    settings::Settings,
};

/// A mesh configuration, lowered. Its parts are rows of their own, so that a change of one is no
/// change of what follows from the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MeshConfig {
    pub(crate) trust: Trust,
    pub(crate) anchors: Anchors,
    pub(crate) root: RootNamespace,
    pub(crate) normalization: Normalization,
    pub(crate) providers: BTreeMap<Name, Provider>,
    pub(crate) said: Said,
}

/// What there is to say of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) problems: Vec<Problem>,
}

/// The trust domains whose identities are of this mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Trust {
    /// The one in which we sign.
    pub(crate) own: Name,
    /// Others that stand for it, sorted; never the own one.
    pub(crate) aliases: Vec<Name>,
}

impl Trust {
    /// All of them, the own one first.
    pub(crate) fn domains(&self) -> impl Iterator<Item = &Name> + Clone {
        std::iter::once(&self.own).chain(&self.aliases)
    }
}

/// Whose policies may govern a whole class of waypoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RootNamespace {
    Named(Name),
    /// What stands there cannot be read. Whoever denies may be the one, and nobody is who allows.
    Unreadable,
}

/// What is done to the path of a request before it is judged, routed and sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Normalization {
    /// Nothing.
    None,
    /// As RFC 3986 has it: dot segments, backslashes, needless escapes.
    Base,
    /// And several slashes are one.
    MergeSlashes,
    /// And before all that, escaped slashes are slashes.
    DecodeAndMergeSlashes,
}

impl Normalization {
    /// Every way, the weakest first.
    pub(crate) const ALL: [Self; 4] =
        [Self::None, Self::Base, Self::MergeSlashes, Self::DecodeAndMergeSlashes];
}

/// There is one of each.
macro_rules! single_rows {
    ($($row:ty = $table:literal),+) => { $(
        impl Row for $row {
            const TABLE: &'static str = $table;
            type Key = ();
            type Bucket = ();

            fn buckets((): &(), _row: &Self) -> Vec<()> {
                Vec::new()
            }
        }
    )+ };
}

single_rows! { Said = "mesh config", Trust = "trust", RootNamespace = "root namespace", Normalization = "normalization" }

impl MeshConfig {
    /// What holds where nobody says anything.
    pub(crate) fn absent(settings: &Settings) -> Self {
        Self {
            trust: Trust { own: settings.trust_domain.clone(), aliases: Vec::new() },
            anchors: Anchors::default(),
            root: RootNamespace::Named(settings.root_namespace.clone()),
            normalization: Normalization::Base,
            providers: BTreeMap::new(),
            said: Said::default(),
        }
    }
}

/// Reads the configuration field by field; a field that cannot be read trusts less and denies more.
pub(crate) fn lower(object: &mesh_api::ConfigMap, settings: &Settings) -> MeshConfig {
    let mut problems = Problems::default();
    let at = FieldPath::new("data").field("mesh");
    let mesh = Fields::read(Some(&object.data.mesh), at, &mut problems);
    let unreadable = !matches!(object.data.mesh, Value::Object(_) | Value::Null);
    check_trust_domain(&mesh, settings, &mut problems);
    let trust =
        Trust { own: settings.trust_domain.clone(), aliases: aliases(&mesh, settings, &mut problems) };
    let config = MeshConfig {
        anchors: ca_certificates::lower(&mesh, &trust, &mut problems),
        trust,
        root: if unreadable { RootNamespace::Unreadable } else { root(&mesh, settings, &mut problems) },
        normalization: if unreadable {
            Normalization::DecodeAndMergeSlashes
        } else {
            normalization(&mesh, &mut problems)
        },
        providers: extension_provider::lower(&mesh, &mut problems),
        said: Said::default(),
    };
    refuse_settings_of_proxies(&mesh, &mut problems);
    MeshConfig { said: Said { problems: problems.0 }, ..config }
}

/// The trust domain that a mesh configuration asks for. It holds from the start of a process to its
/// end: certificates, tokens and the root itself are made for it.
pub(crate) fn trust_domain(object: &mesh_api::ConfigMap) -> Option<Name> {
    let asked = object.data.mesh.get("trustDomain")?.as_str()?;
    is_trust_domain(asked).then(|| asked.into())
}

fn check_trust_domain(mesh: &Fields<'_>, settings: &Settings, problems: &mut Problems) {
    let Some(asked) = mesh.string("trustDomain", problems) else { return };
    let (at, own) = (mesh.at.field("trustDomain"), &settings.trust_domain);
    if !is_trust_domain(asked) {
        problems.invalid(&at, format!("{asked:?} is not a trust domain; {own:?} holds"));
    } else if *asked != **own && settings.pinned.trust_domain {
        problems.unsupported(&at, format!("{own:?} holds, which the command line says"));
    } else if *asked != **own {
        problems.unsupported(
            &at,
            format!("{own:?} holds until Portolan is started anew: its root and its certificates are made for that"),
        );
    }
}

fn aliases(mesh: &Fields<'_>, settings: &Settings, problems: &mut Problems) -> Vec<Name> {
    let mut aliases = Vec::new();
    for (value, at) in mesh.list("trustDomainAliases", problems).unwrap_or_default() {
        match value.as_str() {
            Some(alias) if is_trust_domain(alias) => aliases.push(Name::from(alias)),
            Some(other) => problems.invalid(&at, format!("{other:?} is not a trust domain; leave out stars")),
            None => problems.invalid(&at, format!("expected a string, not {}", kind(value))),
        }
    }
    aliases.retain(|alias| *alias != settings.trust_domain);
    aliases.sort_unstable();
    aliases.dedup();
    aliases
}

/// Nothing that has a meaning in a URI, in a list or in an expression.
pub(super) fn is_trust_domain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(plain) && !text.starts_with('.')
}

fn root(mesh: &Fields<'_>, settings: &Settings, problems: &mut Problems) -> RootNamespace {
    let own = &settings.root_namespace;
    let before = problems.0.len();
    let asked = mesh.string("rootNamespace", problems).filter(|asked| !asked.is_empty());
    if problems.0.len() > before {
        return RootNamespace::Unreadable;
    }
    let at = mesh.at.field("rootNamespace");
    match asked {
        None => RootNamespace::Named(own.clone()),
        Some(asked) if *asked == **own => RootNamespace::Named(own.clone()),
        Some(_) if settings.pinned.root_namespace => {
            problems.unsupported(&at, format!("{own:?} holds, which the command line says"));
            RootNamespace::Named(own.clone())
        }
        Some(asked) if is_namespace(asked) => RootNamespace::Named(asked.into()),
        Some(asked) => {
            problems.invalid(
                &at,
                format!(
                    "{asked:?} is not a namespace; until it is, no policy allows anything to a GatewayClass"
                ),
            );
            RootNamespace::Unreadable
        }
    }
}

fn is_namespace(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 63 && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

/// What cannot be read asks for the strongest: no path gets around a policy by it.
fn normalization(mesh: &Fields<'_>, problems: &mut Problems) -> Normalization {
    let before = problems.0.len();
    let settings = Fields::read(mesh.get("pathNormalization"), mesh.at.field("pathNormalization"), problems);
    settings.only(&["normalization"], problems);
    let asked = settings.string("normalization", problems);
    if problems.0.len() > before {
        return Normalization::DecodeAndMergeSlashes;
    }
    match asked {
        None | Some("DEFAULT" | "BASE") => Normalization::Base,
        Some("NONE") => Normalization::None,
        Some("MERGE_SLASHES") => Normalization::MergeSlashes,
        Some("DECODE_AND_MERGE_SLASHES") => Normalization::DecodeAndMergeSlashes,
        Some(other) => {
            problems.invalid(
                &settings.at.field("normalization"),
                format!(
                    "{other:?} is not DEFAULT, NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES; the last of them is used"
                ),
            );
            Normalization::DecodeAndMergeSlashes
        }
    }
}

/// What Istio would do and we do not is said, for somebody will wonder.
fn refuse_settings_of_proxies(mesh: &Fields<'_>, problems: &mut Problems) {
    let proxies = mesh.get("defaultConfig").and_then(|proxies| proxies.get("connectionSettings"));
    if proxies.is_some_and(|settings| !settings.is_null()) {
        problems.unsupported(
            &mesh.at.field("defaultConfig").field("connectionSettings"),
            "not read: pathNormalization decides for every waypoint",
        );
    }
}

/// The policies of that namespace that have a class for their target, as far as they hold.
impl RootNamespace {
    /// How the word of that policy counts.
    pub(crate) fn standing(&self, policy: &Key) -> Standing {
        match self {
            Self::Named(root) if *root == policy.namespace => Standing::Whole,
            Self::Named(_) => Standing::None,
            Self::Unreadable => Standing::DenyingOnly,
        }
    }
}

/// What a policy with a class for its target may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Whole,
    /// It takes permissions and gives none.
    DenyingOnly,
    None,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lowered(mesh: Value) -> MeshConfig {
        let object = mesh_api::ConfigMap {
            data: mesh_api::ConfigData { mesh, ..mesh_api::ConfigData::default() },
            ..mesh_api::ConfigMap::default()
        };
        lower(&object, &Settings::default())
    }

    #[test]
    fn nothing_said_is_the_default() {
        let absent = MeshConfig::absent(&Settings::default());
        assert_eq!(lowered(Value::Null), absent);
        assert_eq!(lowered(json!({"accessLogFile": "/dev/stdout", "pathNormalization": {}})), absent);
    }

    #[test]
    fn what_cannot_be_read_trusts_less_and_denies_more() {
        let config = lowered(json!({
            "trustDomainAliases": ["old.example", "*", "a/b", 7],
            "pathNormalization": {"normalization": "base"},
            "rootNamespace": 5,
        }));
        assert_eq!(config.trust.aliases, [Name::from("old.example")]);
        assert_eq!(config.normalization, Normalization::DecodeAndMergeSlashes);
        assert_eq!(config.root, RootNamespace::Unreadable);
        assert_eq!(config.said.problems.len(), 5);
        let config = lowered(json!("trustDomain"));
        assert_eq!(config.root, RootNamespace::Unreadable);
        assert_eq!(config.normalization, Normalization::DecodeAndMergeSlashes);
    }
}
