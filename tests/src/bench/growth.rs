//! What one change costs in meshes of several sizes: counts, and times as ratios within one run.

use anyhow::Result;
use serde::Serialize;

use super::{
    CHANGE_BYTES,
    mesh::{Edit, Shape},
    plane::{Cost, Plane},
    spread::{Span, Times},
};

/// The meshes, the smallest first: it is what the others are compared with. The last one has one
/// waypoint for everything, so that what grows with a waypoint and not with the mesh shows as well.
pub const SHAPES: [Shape; 4] = [
    Shape { services: 100, waypoints: 1 },
    Shape { services: 1_000, waypoints: 10 },
    Shape { services: 10_000, waypoints: 100 },
    Shape { services: 10_000, waypoints: 1 },
];

/// A prime: stepping by it visits services all over a mesh before it visits one again.
const STRIDE: u32 = 7_919;

/// One mesh.
#[derive(Clone, Debug, Serialize)]
pub struct Mesh {
    /// How large it is.
    #[serde(flatten)]
    pub shape: Shape,
    /// Reading nothing, committing everything at once, and bringing it to every waypoint.
    pub start: Start,
    /// What all waypoints together would be sent for any change of a policy or route in the inline
    /// shape, in bytes.
    pub inline_bytes: usize,
    /// What each edit costs.
    pub edits: Vec<Edited>,
}

/// A cold start, manifests read but nothing else done.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Start {
    /// Objects committed.
    pub objects: usize,
    /// Resources sent to all waypoints together.
    pub resources: usize,
    /// In how many bytes.
    pub bytes: usize,
    /// Milliseconds of `Mesh::commit`.
    pub commit_ms: f64,
    /// Milliseconds until every waypoint has acknowledged everything, as far as they are ours.
    pub delivered_ms: f64,
}

/// What an edit costs, over many of its kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Edited {
    /// Which.
    pub edit: Edit,
    /// Rows of derived tables computed.
    pub rows: Span,
    /// Resources that all waypoints together were sent.
    pub resources: Span,
    /// In how many bytes of DeltaDiscoveryResponses.
    pub bytes: Span,
    /// Waypoints that were sent anything.
    pub waypoints: Span,
    /// `Mesh::commit`.
    pub commit: Times,
    /// The change to the last acknowledgement, as far as the time is ours.
    pub delivered: Times,
}

/// Builds a mesh of that shape and makes every edit `rounds` times, each followed by what takes it back.
pub fn measure(shape: Shape, rounds: u32) -> Result<Mesh> {
    // The first of anything pays for memory that the process does not have yet.
    drop(Plane::start(shape.objects()?)?);
    let objects = shape.objects()?;
    let count = objects.len();
    let (mut plane, cost) = Plane::start(objects)?;
    let start = Start {
        objects: count,
        resources: cost.heard.resources,
        bytes: cost.heard.bytes,
        commit_ms: cost.commit.as_secs_f64() * 1e3,
        delivered_ms: cost.delivered.as_secs_f64() * 1e3,
    };
    let inline_bytes = plane.inline_bytes()?;
    let mut edits = Vec::new();
    for edit in Edit::ALL {
        let mut costs = Vec::new();
        for round in 0..rounds {
            let service = round * STRIDE % shape.services;
            for changes in shape.edit(edit, service)? {
                costs.push(plane.apply(changes)?);
            }
        }
        edits.push(Edited::of(edit, &costs));
    }
    Ok(Mesh { shape, start, inline_bytes, edits })
}

/// What is wrong with the counts; nothing if they are as promised. Times are never wrong.
pub fn wrong(meshes: &[Mesh]) -> Vec<String> {
    let mut wrong = Vec::new();
    for mesh in meshes {
        let Shape { services, waypoints } = mesh.shape;
        for (index, edited) in mesh.edits.iter().enumerate() {
            let mut expect = |what: &str, is: Span, as_promised: bool, promised: &str| {
                if !as_promised {
                    let edit = edited.edit.name();
                    wrong.push(format!(
                        "{edit} with {services} services on {waypoints} waypoints: {what} {is}, not {promised}"
                    ));
                }
            };
            let Edited { rows, resources, bytes, waypoints, .. } = *edited;
            let moves = match edited.edit {
                Edit::Policy | Edit::Route | Edit::Endpoint => 1,
                Edit::Nothing => 0,
            };
            expect("resources", resources, resources.is(moves), &moves.to_string());
            expect("waypoints that hear of it", waypoints, waypoints.is(moves), &moves.to_string());
            expect("bytes", bytes, bytes.most <= CHANGE_BYTES * moves, &format!("at most {CHANGE_BYTES}"));
            if let Some(first) = meshes.first().and_then(|first| first.edits.get(index)) {
                let grown = rows.most > first.rows.most;
                expect("rows computed", rows, !grown, &format!("{} as in the smallest mesh", first.rows));
            }
        }
    }
    wrong
}

impl Edited {
    fn of(edit: Edit, costs: &[Cost]) -> Self {
        Self {
            edit,
            rows: Span::of(costs.iter().map(|cost| cost.rows)),
            resources: Span::of(costs.iter().map(|cost| cost.heard.resources)),
            bytes: Span::of(costs.iter().map(|cost| cost.heard.bytes)),
            waypoints: Span::of(costs.iter().map(|cost| cost.waypoints)),
            commit: Times::of(costs.iter().map(|cost| cost.commit)),
            delivered: Times::of(costs.iter().map(|cost| cost.delivered)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_costs_does_not_grow_with_the_mesh() {
        let meshes = SHAPES.map(|shape| Shape { services: shape.services.min(1_000), ..shape });
        let meshes: Vec<Mesh> = meshes[..2].iter().map(|shape| measure(*shape, 3).unwrap()).collect();
        assert_eq!(wrong(&meshes), [""; 0]);
        for (small, large) in meshes[0].edits.iter().zip(&meshes[1].edits) {
            assert_eq!(small.rows, large.rows, "{:?}", small.edit);
        }
        assert!(meshes[1].inline_bytes > 9 * meshes[0].inline_bytes);
    }

    #[test]
    fn a_wrong_count_is_told() {
        let mut meshes = vec![measure(Shape { services: 4, waypoints: 2 }, 1).unwrap()];
        assert_eq!(wrong(&meshes), [""; 0]);
        meshes[0].edits[0].resources.most = 2;
        let told = wrong(&meshes);
        assert_eq!(told, ["policy with 4 services on 2 waypoints: resources 1-2, not 1"]);
    }
}
