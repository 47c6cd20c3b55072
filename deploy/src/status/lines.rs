//! Who waits to be written: bad news before the rest, and within each the namespaces in turn.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use proto::{Name, ObjectRef};

/// Of so many writes one is of the line that does not come first, so that it is not kept waiting for ever.
const TURN: u8 = 4;

/// In which line an object waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Somebody should hear of it: something is wrong, or right again.
    First,
    /// The rest.
    Second,
}

/// Both lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    first: Waiting,
    second: Waiting,
    turn: u8,
}

/// One line: whoever has ten thousand objects waits for them, and others do not.
#[derive(Debug, Default)]
struct Waiting {
    namespaces: BTreeMap<Name, VecDeque<ObjectRef>>,
    last: Option<Name>,
}

impl Lines {
    pub(super) fn push(&mut self, line: Line, object: ObjectRef) {
        let waiting = match line {
            Line::First => &mut self.first,
            Line::Second => &mut self.second,
        };
        waiting.namespaces.entry(object.namespace.clone()).or_default().push_back(object);
    }

    /// Whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(Line, ObjectRef)> {
        self.turn = (self.turn + 1) % TURN;
        let first = |it: &mut Self| it.first.pop().map(|object| (Line::First, object));
        let second = |it: &mut Self| it.second.pop().map(|object| (Line::Second, object));
        if self.turn == 0 {
            second(self).or_else(|| first(self))
        } else {
            first(self).or_else(|| second(self))
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.namespaces.is_empty() && self.second.namespaces.is_empty()
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<ObjectRef> {
        let after = self.last.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.namespaces.range((after, Bound::Unbounded)).next();
        let name = next.or_else(|| self.namespaces.iter().next())?.0.clone();
        let queue = self.namespaces.get_mut(&name)?;
        let object = queue.pop_front();
        if queue.is_empty() {
            self.namespaces.remove(&name);
        }
        self.last = Some(name);
        object
    }
}

#[cfg(test)]
mod tests {
    use proto::Kind;

    use super::*;

    fn route(namespace: &str, name: &str) -> ObjectRef {
        ObjectRef { kind: Kind::HTTPRoute, namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn bad_news_come_first_the_rest_is_not_forgotten_and_namespaces_take_turns() {
        let mut lines = Lines::default();
        for name in ["1", "2", "3"] {
            lines.push(Line::Second, route("a", name));
        }
        lines.push(Line::Second, route("b", "1"));
        for name in ["1", "2", "3", "4", "5"] {
            lines.push(Line::First, route("c", name));
        }
        let order = std::iter::from_fn(|| {
            lines.pop().map(|(_, object)| format!("{}{}", object.namespace, object.name))
        });
        assert_eq!(order.collect::<Vec<_>>(), ["c1", "c2", "c3", "a1", "c4", "c5", "b1", "a2", "a3"]);
        assert!(lines.is_empty());
    }
}
