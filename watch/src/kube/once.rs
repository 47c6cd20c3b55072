//! Reading an API server once, as it is now, without following it.

use std::{collections::BTreeMap, sync::Arc};

use proto::{Object, ObjectRef};
use tokio::task::JoinSet;
use translate::{Change, Missing};

use super::{
    api::Api,
    part::{Part, Scope},
    shelf::Shelf,
    trouble::Trouble,
};
use crate::{Complaint, Wanted};

/// How often a list that has become too old while it was read is begun again.
const AGAIN: u32 = 3;

/// Why objects of an API server could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the API server does not give {what}: {why}")]
pub struct Unread {
    what: String,
    why: String,
}

/// What is read of a part: its objects, and what is wrong with them.
type Read = (Vec<Object>, Vec<Complaint>);

/// Reads all that is wanted: the objects, ordered by name, and what is wrong with them. A kind that the
/// server does not have is empty. What may not be read is an error: without a policy that is there, any
/// answer would be a guess.
pub async fn read_cluster(client: kube::Client, wanted: &Wanted) -> Result<Read, Unread> {
    read(client, Part::all(wanted)).await
}

/// Reads the objects that are wanted by name, and nothing else.
pub async fn read_referenced(client: kube::Client, wanted: &Wanted) -> Result<Vec<Object>, Unread> {
    let parts = Part::all(wanted).into_iter().filter(|part| matches!(part.scope, Scope::Named(_)));
    Ok(read(client, parts.collect()).await?.0)
}

/// Reads each of these objects, and tells of it as following it would: what is not there or cannot be read is
/// [`Change::Missing`].
pub async fn read_asked(client: kube::Client, asked: impl IntoIterator<Item = ObjectRef>) -> Vec<Change> {
    let api = Arc::new(Api::new(client));
    let mut reading = JoinSet::new();
    for object in asked {
        let api = Arc::clone(&api);
        reading.spawn(async move {
            let read = whole(&api, &Part::named(object.clone())).await;
            let missing = match read {
                Ok((mut objects, wrong)) => match (objects.pop(), wrong.into_iter().next()) {
                    (Some(object), _) => return Change::Set(object),
                    (None, Some(wrong)) => Missing::Unreadable(wrong.message),
                    (None, None) => Missing::Absent,
                },
                Err(trouble) => Missing::Unreadable(trouble.to_string()),
            };
            Change::Missing(object, Some(missing))
        });
    }
    reading.join_all().await
}

async fn read(client: kube::Client, parts: Vec<Part>) -> Result<Read, Unread> {
    let api = Arc::new(Api::new(client));
    let mut reading = JoinSet::new();
    for part in parts {
        let api = Arc::clone(&api);
        reading.spawn(async move {
            let read = whole(&api, &part).await;
            read.map_err(|trouble| Unread { what: part.to_string(), why: trouble.to_string() })
        });
    }
    let (mut objects, mut complaints) = (BTreeMap::<ObjectRef, Object>::new(), Vec::new());
    while let Some(read) = reading.join_next().await {
        let broken =
            |error: tokio::task::JoinError| Unread { what: "anything".to_owned(), why: error.to_string() };
        let (more, wrong) = read.map_err(broken)??;
        objects.extend(more.into_iter().map(|object| (object.reference(), object)));
        complaints.extend(wrong);
    }
    complaints.sort();
    Ok((objects.into_values().collect(), complaints))
}

async fn whole(api: &Api, part: &Part) -> Result<Read, Trouble> {
    let Some(version) = api.version(part.kind).await? else { return Ok(Read::default()) };
    for _ in 0..AGAIN {
        match list(api, part, version).await {
            Err(Trouble::Expired) => {}
            read => return read,
        }
    }
    Err(Trouble::Expired)
}

async fn list(api: &Api, part: &Part, version: &str) -> Result<Read, Trouble> {
    let mut shelf = Shelf::new(part);
    let mut next = None;
    loop {
        let page = api.page(part, version, next).await?;
        for object in page.items {
            shelf.put(object, version);
        }
        next = page.metadata.continue_.filter(|next| !next.is_empty());
        if next.is_none() {
            break;
        }
    }
    let set = |change| if let Change::Set(object) = change { Some(object) } else { None };
    let objects = shelf.take_changes().into_iter().filter_map(set).collect();
    Ok((objects, shelf.take_wrong().unwrap_or_default()))
}
