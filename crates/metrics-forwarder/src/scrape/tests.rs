use super::*;
use crate::exposition::{Format, parse};

const STARTED: UnixMillis = UnixMillis::new(1_000);
const TOOK: Duration = Duration::from_millis(250);

fn target() -> Target {
    Target::new(
        [("job", "pool"), ("instance", "127.0.0.1:7074")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
    )
}

fn text(text: &str) -> Result<Exposition, ScrapeError> {
    Ok(parse(text.as_bytes(), Format::Prometheus, 100)?)
}

fn failed() -> Result<Exposition, ScrapeError> {
    Err(ScrapeError::Status { status: 500 })
}

fn shown(outcome: &Outcome) -> Vec<String> {
    let one = |sample: &Sample| {
        let labels: Vec<_> =
            sample.labels.iter().filter(|(name, _)| *name != NAME).map(|(n, v)| format!("{n}={v}")).collect();
        let value =
            if sample.value.to_bits() == STALE_NAN { "stale".to_owned() } else { sample.value.to_string() };
        let name = sample.labels.get(NAME).unwrap();
        format!("{name}{{{}}} {value} @{}", labels.join(","), sample.timestamp.get())
    };
    outcome.samples.iter().map(one).collect()
}

#[test]
fn a_scrape_is_labelled_timed_and_says_how_it_went() {
    let outcome = target().take_in(STARTED, TOOK, text("m{a=\"b\"} 5\nn 6 900\n"));
    assert_eq!(
        shown(&outcome),
        [
            "m{a=b,instance=127.0.0.1:7074,job=pool} 5 @1000",
            "n{instance=127.0.0.1:7074,job=pool} 6 @900",
            "up{instance=127.0.0.1:7074,job=pool} 1 @1000",
            "scrape_duration_seconds{instance=127.0.0.1:7074,job=pool} 0.25 @1000",
            "scrape_samples_scraped{instance=127.0.0.1:7074,job=pool} 2 @1000",
        ]
    );
}

#[test]
fn a_failed_scrape_is_down_and_ends_every_series_once() {
    let mut target = target();
    target.take_in(STARTED, TOOK, text("m 5\nn 6 900\n"));
    let outcome = target.take_in(UnixMillis::new(2_000), TOOK, failed());
    assert_eq!(
        shown(&outcome),
        [
            "m{instance=127.0.0.1:7074,job=pool} stale @2000",
            "up{instance=127.0.0.1:7074,job=pool} 0 @2000",
            "scrape_duration_seconds{instance=127.0.0.1:7074,job=pool} 0.25 @2000",
            "scrape_samples_scraped{instance=127.0.0.1:7074,job=pool} 0 @2000",
        ]
    );
    assert_eq!(target.take_in(STARTED, TOOK, failed()).samples.len(), 3);
}

#[test]
fn a_series_that_is_gone_from_the_text_ends() {
    let mut target = target();
    target.take_in(STARTED, TOOK, text("m{a=\"1\"} 5\nm{a=\"2\"} 5\n"));
    let outcome = target.take_in(STARTED, TOOK, text("m{a=\"2\"} 5\n"));
    assert_eq!(shown(&outcome)[1], "m{a=1,instance=127.0.0.1:7074,job=pool} stale @1000");
}

#[test]
fn a_scraped_label_in_the_way_is_renamed_not_lost() {
    let outcome = target().take_in(STARTED, TOOK, text("m{job=\"x\",exported_job=\"y\",instance=\"z\"} 1\n"));
    assert_eq!(
        shown(&outcome)[0],
        "m{exported_exported_job=x,exported_instance=z,exported_job=y,instance=127.0.0.1:7074,job=pool} 1 @1000"
    );
}

#[test]
fn the_second_sample_of_a_series_at_the_same_time_is_counted_and_dropped() {
    let outcome = target().take_in(STARTED, TOOK, text("m 1\nm 2\nm 3 900\nm 4 901\n"));
    assert_eq!(outcome.duplicates, 1);
    assert_eq!(
        outcome.samples.iter().take(3).map(|sample| sample.value).collect::<Vec<_>>(),
        [1.0, 3.0, 4.0]
    );
}

#[test]
fn metadata_is_told_when_it_is_new_has_changed_or_is_due_again() {
    let mut target = target();
    let mut told =
        |help: &str| target.take_in(STARTED, TOOK, text(&format!("# HELP m {help}\nm 1\n"))).metadata.len();
    assert_eq!([told("a"), told("a"), told("b"), told("b")], [1, 0, 1, 0]);
    let rest: usize = (4..METADATA_SCRAPES).map(|_| told("b")).sum();
    assert_eq!((rest, told("b")), (0, 1));
}
