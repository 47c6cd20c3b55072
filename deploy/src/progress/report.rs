//! What one replica tells the others of the proxies that it serves: sums, and by what commit they are meant.

use std::collections::BTreeMap;

use proto::{Name, TypeUrl, Version};
use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};

/// What a replica tells of all its proxies: by waypoint, as in `default/waypoint`, of those that have any.
pub type Reports = BTreeMap<String, Report>;

/// What a replica tells of its proxies of one waypoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// A hash of the versions of everything that it published there and that statuses wait for: of equal
    /// hashes the same was published. What follows is about that.
    pub published: u64,
    /// How many have had all of it once.
    pub ready: u32,
    /// How many have not.
    pub starting: u32,
    /// What somebody does not have; all else, all have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
}

/// A resource that somebody does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// Its type URL.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// How many of the ready ones have not answered.
    #[serde(default)]
    pub waiting: u32,
    /// How many do not have it because one of them rejected it.
    #[serde(default)]
    pub rejected: u32,
    /// What the first of those said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// The share of a resource in [`Report::published`]: shares are put together by exclusive or.
pub(super) fn share(type_url: TypeUrl, name: &str, version: Version) -> u64 {
    let mut text = format!("{type_url}\n{name}\n").into_bytes();
    text.extend(version.0.to_le_bytes());
    rapidhash_v3(&text)
}

/// Another replica, as its last report that could be understood has it.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) report: Report,
    /// The last snapshot of ours at which what was published is what it published.
    at: u64,
    lacks: BTreeMap<(TypeUrl, Name), Lack>,
}

/// What proxies of others have of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    pub(super) waiting: u32,
    pub(super) rejected: u32,
    pub(super) words: Option<String>,
}

impl Replica {
    pub(super) fn new(report: &Report, at: u64) -> Self {
        let lacks = report.lacks.iter().filter_map(|lack| {
            Some(((TypeUrl::parse(&lack.kind)?, lack.name.as_str().into()), lack.clone()))
        });
        Self { report: report.clone(), at, lacks: lacks.collect() }
    }

    /// What its proxies have of a resource that was published first in `snapshot`, by us.
    pub(super) fn of(&self, key: &(TypeUrl, Name), version: Version, snapshot: u64) -> Elsewhere {
        match self.lacks.get(key).filter(|lack| lack.version == version.0) {
            Some(Lack { waiting, rejected, words, .. }) => {
                Elsewhere { waiting: *waiting, rejected: *rejected, words: words.clone() }
            }
            None if snapshot > self.at => Elsewhere { waiting: self.report.ready, ..Elsewhere::default() },
            None => Elsewhere::default(),
        }
    }

    /// Whether it is what that report makes of it.
    pub(super) fn is(&self, report: &Report, at: u64) -> bool {
        self.at == at && self.report == *report
    }

    /// What it says was rejected.
    pub(super) fn rejections(&self) -> impl Iterator<Item = (&(TypeUrl, Name), Version)> {
        let rejected = self.lacks.iter().filter(|(_, lack)| lack.rejected > 0);
        rejected.map(|(key, lack)| (key, Version(lack.version)))
    }
}

impl Elsewhere {
    pub(super) fn and(mut self, other: Self) -> Self {
        self.waiting = self.waiting.saturating_add(other.waiting);
        self.rejected = self.rejected.saturating_add(other.rejected);
        self.words = self.words.or(other.words);
        self
    }
}
