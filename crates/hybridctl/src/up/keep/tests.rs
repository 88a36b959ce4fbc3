use super::*;

#[tokio::test]
async fn the_sixth_death_within_a_minute_is_the_last() {
    let mut deaths = Deaths::default();
    let start = Instant::now();
    let pauses: Vec<_> =
        (0..6).map(|second| deaths.again_after(start + Duration::from_secs(second))).collect();
    let expected = [250, 500, 1_000, 2_000, 4_000].map(|ms| Some(Duration::from_millis(ms)));
    assert_eq!(pauses.get(..5), Some(expected.as_slice()));
    assert_eq!(pauses.last(), Some(&None));
}

#[tokio::test]
async fn a_death_an_hour_ago_does_not_count() {
    let mut deaths = Deaths::default();
    let start = Instant::now();
    for hour in 0..20 {
        assert_eq!(deaths.again_after(start + Duration::from_secs(3_600 * hour)), Some(PAUSE));
    }
}

async fn lines(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    read_lines(bytes, |line| lines.push(line.to_owned())).await;
    lines
}

#[tokio::test]
async fn lines_are_whole_also_the_one_without_an_end() {
    assert_eq!(lines(b"one\n\ntwo\nthr\xffee").await, ["one", "", "two", "thr\u{fffd}ee"]);
    assert!(lines(b"").await.is_empty());
}

#[tokio::test]
async fn an_endless_line_is_cut_and_the_next_one_is_not() {
    let mut bytes = vec![b'x'; 100_000];
    bytes.extend_from_slice(b"\nnext\n");
    let lines = lines(&bytes).await;
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES_MAX, 4]);
}
