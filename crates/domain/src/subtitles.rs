//! Timed text as subtitle files.
//!
//! `SubRip` has no standard; the form is the one that players agree on. `WebVTT`: <https://www.w3.org/TR/webvtt1/>.

use std::{fmt::Write as _, time::Duration};

/// A stretch of text and when it is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// From the start of the audio.
    pub start: Duration,
    /// From the start of the audio.
    pub end: Duration,
    /// Without the white space around it.
    pub text: String,
}

/// A `SubRip` file: numbered cues, a comma before the milliseconds.
#[must_use]
pub fn srt(cues: &[Cue]) -> String {
    let mut file = String::new();
    for (number, cue) in (1_usize..).zip(cues) {
        let (start, end) = (time(cue.start, ','), time(cue.end, ','));
        // writing to a string cannot fail
        let _ = write!(file, "{number}\n{start} --> {end}\n{}\n\n", lines(&cue.text));
    }
    file
}

/// A `WebVTT` file: a header, a point before the milliseconds.
#[must_use]
pub fn vtt(cues: &[Cue]) -> String {
    let mut file = "WEBVTT\n\n".to_owned();
    for cue in cues {
        let (start, end) = (time(cue.start, '.'), time(cue.end, '.'));
        // these would be read as markup
        let text = lines(&cue.text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = write!(file, "{start} --> {end}\n{text}\n\n");
    }
    file
}

/// An empty line would end the cue.
fn lines(text: &str) -> String {
    let kept: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    kept.join("\n")
}

fn time(at: Duration, mark: char) -> String {
    let (seconds, millis) = (at.as_secs(), at.subsec_millis());
    format!("{:02}:{:02}:{:02}{mark}{millis:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cues() -> Vec<Cue> {
        let cue = |start, end, text: &str| Cue {
            start: Duration::from_millis(start),
            end: Duration::from_millis(end),
            text: text.to_owned(),
        };
        vec![cue(0, 1_500, " a < b\n\nnext "), cue(3_661_001, 3_662_000, "end")]
    }

    #[test]
    fn a_subrip_file_numbers_its_cues() {
        assert_eq!(
            srt(&cues()),
            "1\n00:00:00,000 --> 00:00:01,500\na < b\nnext\n\n2\n01:01:01,001 --> 01:01:02,000\nend\n\n"
        );
    }

    #[test]
    fn a_webvtt_file_has_no_markup_of_ours() {
        assert_eq!(
            vtt(&cues()),
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt; b\nnext\n\n01:01:01.001 --> 01:01:02.000\nend\n\n"
        );
    }
}
