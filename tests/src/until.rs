//! Waiting for something that another process does: ask again until it is so, or say what never came.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long to rest between two looks. Short, because tests wait often and a look is cheap.
const PAUSE: Duration = Duration::from_millis(10);

/// Calls `check` until it gives a value, at most for `patience`. An error of `check` ends the wait at once.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut check: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = check().await? {
            return Ok(found);
        }
        ensure!(start.elapsed() < patience, "waited {} s in vain for {what}", patience.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}
