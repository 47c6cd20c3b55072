//! What was told a while ago, so that the same again is counted, and that nobody is flooded.

use std::{collections::BTreeMap, time::Duration};

use proto::ObjectRef;
use tokio::time::Instant;

use super::news::{Grade, News};

/// How long the same is the same story, as Kubernetes' own recorders have it.
const STORY: Duration = Duration::from_mins(6);
/// How many Events of one object at once, and after which time there is one more.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_mins(1);

/// What is the same where it comes again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Story {
    object: ObjectRef,
    uid: Box<str>,
    grade: Grade,
    reason: String,
    /// The note without its numbers of proxies, which say how many it happened to.
    what: String,
}

/// How it is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// As a new Event.
    New,
    /// As another time of the Event of that name: the how manyeth it is.
    Again(String, u32),
    /// Not: there was too much of that object already.
    Not,
}

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Recent {
    stories: BTreeMap<Story, Told>,
    /// How many Events of an object, and since when that was fewer.
    objects: BTreeMap<ObjectRef, (u32, Instant)>,
}

#[derive(Debug)]
struct Told {
    /// The Event's name; empty while it could not be made.
    name: String,
    count: u32,
    last: Instant,
}

impl Recent {
    /// How `news` of the object are to be told now.
    pub(super) fn tell(
        &mut self,
        object: &ObjectRef,
        uid: &str,
        news: &News,
        now: Instant,
    ) -> (Story, Telling) {
        self.stories.retain(|_, told| told.last + STORY > now);
        self.objects.retain(|_, (count, since)| {
            let ripe = now.saturating_duration_since(*since).as_secs() / REFILL.as_secs();
            let ripe = u32::try_from(ripe).unwrap_or(u32::MAX);
            *count = count.saturating_sub(ripe);
            *since += REFILL.saturating_mul(ripe);
            *count > 0
        });
        let story = Story {
            object: object.clone(),
            uid: uid.into(),
            grade: news.grade,
            reason: news.reason.clone(),
            what: without_counts(&news.note),
        };
        if let Some(told) = self.stories.get_mut(&story) {
            (told.count, told.last) = (told.count.saturating_add(1), now);
        }
        let (count, _) = self.objects.entry(object.clone()).or_insert((0, now));
        if *count >= BURST {
            return (story, Telling::Not);
        }
        *count += 1;
        let telling = match self.stories.get(&story) {
            Some(told) => Telling::Again(told.name.clone(), told.count),
            None => Telling::New,
        };
        (story, telling)
    }

    /// Notes the Event that a story has become.
    pub(super) fn told(&mut self, story: Story, name: String, now: Instant) {
        self.stories.insert(story, Told { name, count: 1, last: now });
    }

    /// Forgets a story whose Event is gone.
    pub(super) fn forget(&mut self, story: &Story) {
        self.stories.remove(story);
    }
}

/// `2 proxies of waypoint a/b` and `1 proxy of waypoint a/b` are the same.
fn without_counts(note: &str) -> String {
    let mut words = note.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match words.peek() {
            Some(&("proxy" | "proxies")) if word.bytes().all(|byte| byte.is_ascii_digit()) => {
                words.next();
            }
            Some(_) | None => kept.push(word),
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use proto::Kind;

    use super::*;

    fn object(name: &str) -> ObjectRef {
        ObjectRef { kind: Kind::HTTPRoute, namespace: "default".into(), name: name.into() }
    }

    fn news(note: &str) -> News {
        News {
            grade: Grade::Warning,
            reason: "RejectedByProxy".into(),
            action: "Programming",
            note: note.into(),
        }
    }

    #[test]
    fn the_same_again_is_counted_and_after_a_while_it_is_new() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let (web, said) = (object("web"), news("1 proxy of waypoint a/b cannot have it: no"));
        let (story, telling) = recent.tell(&web, "u", &said, start);
        assert_eq!(telling, Telling::New);
        recent.told(story, "web.1".to_owned(), start);
        let more = news("3 proxies of waypoint a/b cannot have it: no");
        let again = |recent: &mut Recent, uid, at| recent.tell(&web, uid, &more, start + at).1;
        assert_eq!(again(&mut recent, "u", STORY / 2), Telling::Again("web.1".to_owned(), 2));
        assert_eq!(again(&mut recent, "u", STORY), Telling::Again("web.1".to_owned(), 3));
        assert_eq!(again(&mut recent, "other", STORY), Telling::New, "another object of that name");
        assert_eq!(again(&mut recent, "u", STORY * 3), Telling::New);
        assert_eq!(recent.tell(&web, "u", &news("something else"), start).1, Telling::New);
    }

    #[test]
    fn one_object_does_not_flood_and_others_are_not_held_back() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let mut tell = |name: &str, number: u32, at| {
            recent.tell(&object(name), "u", &news(&format!("what {number}")), start + at).1
        };
        let told = (0..100).filter(|number| tell("loud", *number, Duration::ZERO) == Telling::New).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(tell("quiet", 0, Duration::ZERO), Telling::New);
        assert_eq!(tell("loud", 100, REFILL), Telling::New);
        assert_eq!(tell("loud", 101, REFILL), Telling::Not);
    }
}
