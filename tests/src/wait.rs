//! Waiting for something another process does: ask again until a deadline, never sleep and hope.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long between two questions.
const INTERVAL: Duration = Duration::from_millis(10);

/// Asks `probe` every 10 ms until it gives a value.
///
/// # Errors
/// `deadline` passed first; the message says what was waited for.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} for {what}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_value_is_returned_as_soon_as_it_is_there() {
        let mut asked = 0;
        let value = until("the third answer", Duration::from_secs(5), async || {
            asked += 1;
            (asked == 3).then_some("here")
        })
        .await
        .unwrap();
        assert_eq!((value, asked), ("here", 3));
    }

    #[tokio::test]
    async fn a_deadline_that_passed_names_what_was_missing() {
        let error = until("the sun", Duration::ZERO, async || None::<()>).await.unwrap_err();
        assert!(error.to_string().contains("the sun"), "{error}");
    }
}
