//! The demo, as a test: the table of Istio's waypoint guides.

use anyhow::{Result, ensure};
use tests::{demo, lab};

#[test]
fn the_demo_shows_what_the_guides_promise() -> Result<()> {
    lab::test(&demo::setup(), async |lab| {
        let rows = demo::play(lab).await?;
        ensure!(rows.iter().all(|row| row.ok), "\n{}", demo::table(&rows));
        Ok(())
    })
}

#[test]
fn the_demo_shows_an_edit_in_the_next_request() -> Result<()> {
    lab::test(&demo::setup(), async |lab| {
        let (row, _) = demo::allow_post(lab).await?;
        ensure!(row.ok, "{row:?}");
        Ok(())
    })
}
