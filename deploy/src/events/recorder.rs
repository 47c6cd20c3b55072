//! Writes Events, one after another. What cannot be told is dropped in the end: a status says it still.

use std::time::Duration;

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use proto::ObjectRef;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TrySendError},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    news::News,
    recent::{Recent, Story, Telling},
};
use crate::deployer::Permission;

/// How many wait to be written. More than that at once nobody reads.
const WAITING: usize = 1_000;
/// How fast they are written.
const REST: Duration = Duration::from_millis(50);
/// How long an answer may take, and the rests before trying again.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];
/// The most that an Event's note and its reporter's name may have, in bytes.
const NOTE: usize = 1_024;
const REPORTER: usize = 128;

/// The field manager of Events.
const FIELD_MANAGER: &str = "portolan.dev/events";

/// What an account must be allowed to do for telling Events, in the whole cluster.
pub fn permissions() -> Vec<Permission> {
    vec![Permission { group: "events.k8s.io", resource: "events", verbs: &["create", "patch"] }]
}

/// Where news are given to be told.
#[derive(Clone, Debug)]
pub struct Teller {
    tell: Sender<Told>,
}

#[derive(Debug)]
struct Told {
    object: ObjectRef,
    api_version: String,
    uid: Box<str>,
    news: News,
}

/// Writes what is told.
pub struct Recorder {
    client: Client,
    /// Which replica tells it.
    instance: String,
    told: Receiver<Told>,
    recent: Recent,
    forbidden: bool,
}

impl Teller {
    /// Tells `news` of an object, which has that uid. Does not wait: where too many wait already, it is dropped.
    pub(crate) fn tell(&self, object: &ObjectRef, api_version: &str, uid: &str, news: News) {
        let told =
            Told { object: object.clone(), api_version: api_version.to_owned(), uid: uid.into(), news };
        if let Err(TrySendError::Full(told)) = self.tell.try_send(told) {
            debug!(object = %told.object, "too many Events at once: this one is not told");
        }
    }
}

impl Recorder {
    /// One, and the way to it. `instance` is which replica we are: our pod.
    pub fn new(client: Client, instance: &str) -> (Self, Teller) {
        let (tell, told) = mpsc::channel(WAITING);
        let instance = cut(if instance.is_empty() { "portolan" } else { instance }, REPORTER);
        (Self { client, instance, told, recent: Recent::default(), forbidden: false }, Teller { tell })
    }

    /// Writes until nobody tells any more.
    pub async fn run(mut self) {
        while let Some(told) = self.told.recv().await {
            let now = Instant::now();
            let (story, telling) = self.recent.tell(&told.object, &told.uid, &told.news, now);
            let written = match telling {
                Telling::Not => continue,
                Telling::New => self.make(&told, story).await,
                Telling::Again(name, count) => self.count(&told, story, &name, count).await,
            };
            match written {
                Ok(()) => self.forbidden = false,
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    if !self.forbidden {
                        warn!(
                            "Events cannot be told: {}; let our account create and patch events of events.k8s.io",
                            status.message
                        );
                    }
                    self.forbidden = true;
                }
                Err(error) => debug!(object = %told.object, "an Event cannot be told: {error}"),
            }
            sleep(REST).await;
        }
    }

    async fn make(&mut self, told: &Told, story: Story) -> Result<(), kube::Error> {
        let event = self.event(told);
        let api = self.api(told);
        patiently(&api, &Ask::Make(&event)).await?;
        self.recent.told(story, event.metadata.name.unwrap_or_default(), Instant::now());
        Ok(())
    }

    async fn count(&mut self, told: &Told, story: Story, name: &str, count: u32) -> Result<(), kube::Error> {
        let now = MicroTime(Timestamp::now());
        let series = json!({"series": {"count": count, "lastObservedTime": now}});
        let api = self.api(told);
        match patiently(&api, &Ask::Count(name, &series)).await {
            // Events are gone after an hour, and whenever somebody clears them away.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                self.recent.forget(&story);
                self.make(told, story).await
            }
            outcome => outcome,
        }
    }

    fn api(&self, told: &Told) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace(&told.object))
    }

    fn event(&self, told: &Told) -> Event {
        let Told { object, api_version, uid, news } = told;
        let News { grade, reason, action, note } = news;
        let now = Timestamp::now();
        let namespaced = object.kind.namespaced();
        let regarding = ObjectReference {
            api_version: Some(api_version.clone()),
            kind: Some(object.kind.name().to_owned()),
            name: Some(object.name.to_string()),
            namespace: namespaced.then(|| object.namespace.to_string()),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", stem(&object.name), now.as_nanosecond())),
                namespace: Some(namespace(object).to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(grade.as_str().to_owned()),
            reason: Some(reason.clone()),
            action: Some((*action).to_owned()),
            note: Some(cut(note, NOTE)),
            regarding: Some(regarding),
            reporting_controller: Some(translate::CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// Where Events of the object are; those of an object without a namespace are in `default`.
fn namespace(object: &ObjectRef) -> &str {
    if object.kind.namespaced() { &object.namespace } else { "default" }
}

/// What an Event's name begins with. A name has at most 253 bytes, and they are ASCII.
fn stem(name: &str) -> &str {
    name.get(..220).unwrap_or(name).trim_end_matches(['.', '-'])
}

/// What is asked of the server.
enum Ask<'a> {
    /// To make this Event.
    Make(&'a Event),
    /// To merge this into the Event of that name.
    Count(&'a str, &'a Value),
}

/// Tries again for a while where nobody answers.
async fn patiently(api: &Api<Event>, ask: &Ask<'_>) -> Result<(), kube::Error> {
    for rest in RETRIES {
        match timeout(PATIENCE, once(api, ask)).await {
            Ok(Err(kube::Error::Api(status))) if status.code != 429 && status.code < 500 => {
                return Err(kube::Error::Api(status));
            }
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) | Err(_) => sleep(rest).await,
        }
    }
    once(api, ask).await
}

async fn once(api: &Api<Event>, ask: &Ask<'_>) -> Result<(), kube::Error> {
    let field_manager = Some(FIELD_MANAGER.to_owned());
    match ask {
        Ask::Make(event) => {
            api.create(&PostParams { field_manager, ..<_>::default() }, event).await?;
        }
        Ask::Count(name, series) => {
            let parameters = PatchParams { field_manager, ..<_>::default() };
            api.patch(name, &parameters, &Patch::Merge(series)).await?;
        }
    }
    Ok(())
}

/// The text, with at most so many bytes.
fn cut(text: &str, bytes: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes - ELLIPSIS.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_name_is_a_name_however_long_the_objects_is() {
        assert_eq!(stem("web"), "web");
        assert_eq!(stem(&format!("{}-{}", "a".repeat(219), "b".repeat(30))), "a".repeat(219));
    }

    #[test]
    fn a_note_is_no_longer_than_the_api_takes() {
        assert_eq!(cut("short", NOTE), "short");
        let long = cut(&"ä".repeat(NOTE), NOTE);
        assert!(long.len() <= NOTE && long.len() > NOTE - 4 && long.ends_with('…'), "{}", long.len());
    }
}
