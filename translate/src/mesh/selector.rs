//! Label selectors, as Kubernetes matches them.

use std::collections::BTreeMap;

use crate::problem::{FieldPath, Problem, Reason};

/// Which labels something must have. Without requirements every set of labels will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In(Vec<String>),
    /// Also without the label.
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Everything that has these labels.
    pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.clone()]),
        });
        Self { requirements: requirements.collect() }
    }

    /// Reads `matchLabels` and the `(key, operator, values)` of `matchExpressions`. `None` for what
    /// cannot be read: a selector with a requirement left out would admit more than was meant.
    pub(crate) fn lower<'e>(
        labels: Option<&BTreeMap<String, String>>,
        expressions: impl Iterator<Item = (&'e str, &'e str, &'e [String])>,
        at: &FieldPath,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let before = problems.len();
        let Self { mut requirements } = labels.map(Self::of_labels).unwrap_or_default();
        for (index, (key, operator, values)) in expressions.enumerate() {
            let operator = match (operator, values) {
                ("In", [_, ..]) => Operator::In(values.to_vec()),
                ("NotIn", [_, ..]) => Operator::NotIn(values.to_vec()),
                ("Exists", []) => Operator::Exists,
                ("DoesNotExist", []) => Operator::DoesNotExist,
                (operator, _) => {
                    problems.push(Problem {
                        at: at.field("matchExpressions").index(index),
                        reason: Reason::Invalid,
                        message: format!(
                            "{operator:?} is not In or NotIn with values, nor Exists or DoesNotExist without; nothing is selected"
                        ),
                    });
                    continue;
                }
            };
            requirements.push(Requirement { key: key.to_owned(), operator });
        }
        (problems.len() == before).then_some(Self { requirements })
    }

    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|Requirement { key, operator }| {
            let value = labels.get(key);
            match operator {
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}
