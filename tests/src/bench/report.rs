//! The figures as a table for people and as JSON for programs.

use std::fmt::Write;

use serde::Serialize;

use super::{
    envoy::{self, Edits},
    growth::{self, Edited, Mesh, Start},
    mesh::{Edit, Shape},
    spread::Times,
};

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Generated meshes, the smallest first.
    pub meshes: Vec<Mesh>,
    /// Edits with a real Envoy, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy: Option<Edits>,
}

impl Report {
    /// Every count that is not as promised.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = growth::wrong(&self.meshes);
        wrong.extend(self.envoy.iter().flat_map(envoy::wrong));
        wrong
    }

    /// The figures for a person, every line ended.
    pub fn table(&self) -> String {
        let mut text = aligned(&self.growth());
        if let Some(edits) = &self.envoy {
            text.push('\n');
            text.push_str(&aligned(&waits(edits)));
            let Edits { edits, resources, bytes, streams, drained, .. } = edits;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "each of the {edits} edits: {resources} resource in {bytes} bytes to {streams} Envoy; \
                 drain counters that moved: {}",
                drained.len()
            );
        }
        text
    }

    fn growth(&self) -> Vec<Vec<String>> {
        let heading = [
            "services",
            "waypoints",
            "change",
            "rows",
            "resources",
            "told",
            "bytes",
            "inline bytes",
            "less by",
            "commit ms",
            "ratio",
            "delivered ms",
            "ratio",
        ];
        let mut lines = vec![heading.map(str::to_owned).to_vec()];
        let Some(first) = self.meshes.first() else { return lines };
        for mesh in &self.meshes {
            let Shape { services, waypoints } = mesh.shape;
            let Start { resources, bytes, commit_ms, delivered_ms, .. } = mesh.start;
            let times = |commit: f64, base_commit: f64, delivered: f64, base_delivered: f64| {
                let ratio = |time: f64, base: f64| format!("x{:.1}", time / base);
                [ms(commit), ratio(commit, base_commit), ms(delivered), ratio(delivered, base_delivered)]
            };
            let mut line: Vec<String> = [services.to_string(), waypoints.to_string()].into();
            let none = || "-".to_owned();
            line.extend(["start".to_owned(), none(), resources.to_string(), waypoints.to_string()]);
            line.extend([bytes.to_string(), none(), none()]);
            line.extend(times(commit_ms, first.start.commit_ms, delivered_ms, first.start.delivered_ms));
            lines.push(line);
            for (edited, base) in mesh.edits.iter().zip(&first.edits) {
                let Edited { edit, rows, resources, bytes, waypoints, commit, delivered } = edited;
                let mut line = vec![String::new(), String::new(), edit.name().to_owned()];
                line.extend([rows, resources, waypoints, bytes].map(ToString::to_string));
                match edit {
                    Edit::Policy | Edit::Route => {
                        let less = mesh.inline_bytes.checked_div(bytes.most).unwrap_or_default();
                        line.extend([mesh.inline_bytes.to_string(), format!("x{less}")]);
                    }
                    // Endpoints are a resource of their own in that shape too.
                    Edit::Endpoint | Edit::Nothing => line.extend([none(), none()]),
                }
                line.extend(times(commit.p50, base.commit.p50, delivered.p50, base.delivered.p50));
                lines.push(line);
            }
        }
        lines
    }
}

fn waits(edits: &Edits) -> Vec<Vec<String>> {
    let Edits { edits, acknowledged, delivered, in_force, .. } = edits;
    let heading = [&format!("{edits} edits of a policy's file"), "p50 ms", "p90", "p99", "max"];
    let line = |name: &str, times: &Times| {
        let Times { p50, p90, p99, max } = *times;
        [name.to_owned()].into_iter().chain([p50, p90, p99, max].map(ms)).collect()
    };
    vec![
        heading.map(str::to_owned).to_vec(),
        line("file written to Envoy's acknowledgement", acknowledged),
        line("  of it, from the event loop on", delivered),
        line("file written to the first request judged by it", in_force),
    ]
}

/// Three digits: a time of a commit is far below a millisecond, a start of a large mesh is seconds.
fn ms(milliseconds: f64) -> String {
    let digits = if milliseconds < 10.0 { 3 } else { 1 };
    format!("{milliseconds:.digits$}")
}

/// Lines under a heading, in columns as wide as their widest cell: words to the left, numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let cell = |line: &Vec<String>, column: usize| line.get(column).cloned().unwrap_or_default();
    let width =
        |column| lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or_default();
    let is_number = |text: &str| text.chars().all(|char| char.is_ascii_digit() || "-.x".contains(char));
    let is_numeric = |column| lines.iter().skip(1).all(|line| is_number(&cell(line, column)));
    let layout: Vec<(usize, bool)> = (0..columns).map(|column| (width(column), is_numeric(column))).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = layout.iter().enumerate().map(|(column, (width, numeric))| {
            let cell = cell(line, column);
            if *numeric { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        if number == 0 {
            let rules: Vec<String> = layout.iter().map(|(width, _)| "-".repeat(*width)).collect();
            text.push_str(&rules.join("  "));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let lines = [["what", "ms"], ["a", "1.5"], ["longer", "10.25"]];
        let lines = lines.map(|line| line.map(str::to_owned).to_vec());
        let expected = "\
what       ms
------  -----
a         1.5
longer  10.25
";
        assert_eq!(aligned(&lines), expected);
    }

    #[test]
    fn a_report_has_a_line_for_each_edit_of_each_mesh() {
        let shape = Shape { services: 4, waypoints: 2 };
        let report = Report { meshes: vec![growth::measure(shape, 1).unwrap()], envoy: None };
        let table = report.table();
        assert_eq!(table.lines().count(), 2 + 1 + Edit::ALL.len(), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["meshes"][0]["services"], 4);
        assert_eq!(json["meshes"][0]["edits"][3]["resources"]["most"], 0);
        assert!(json.get("envoy").is_none());
    }
}
