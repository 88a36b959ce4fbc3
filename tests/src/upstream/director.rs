//! Which request gets which script.

use super::Script;

/// Chooses what each request gets.
#[derive(Debug)]
pub(super) struct Director {
    healthy: Script,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    script: Script,
    left: Option<u64>,
    /// Share that has built up since the script last applied.
    due: f64,
}

impl Director {
    pub(super) fn new(healthy: Script) -> Self {
        Self { healthy, current: None }
    }

    pub(super) fn replace(&mut self, script: Option<Script>) {
        self.current = script.map(|script| Current { left: script.next_n, script, due: 0.0 });
    }

    /// The script of the next request, and whether it is the one that the server was started with.
    pub(super) fn next(&mut self) -> (&Script, bool) {
        let Some(current) = self.current.as_mut().filter(|current| current.left != Some(0)) else {
            return (&self.healthy, true);
        };
        current.due += current.script.fail_rate;
        // Sums of a share such as 0.1 fall short of 1 by rounding.
        if current.due < 1.0 - 1e-9 {
            return (&self.healthy, true);
        }
        current.due -= 1.0;
        current.left = current.left.map(|left| left.saturating_sub(1));
        (&current.script, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(script: Script, count: usize) -> Vec<u16> {
        let mut director = Director::new(Script::default());
        director.replace(Some(script));
        (0..count).map(|_| director.next().0.status.unwrap_or(200)).collect()
    }

    #[test]
    fn a_script_for_two_requests_leaves_the_third_alone() {
        let script = Script { status: Some(500), next_n: Some(2), ..Script::default() };
        assert_eq!(statuses(script, 4), [500, 500, 200, 200]);
    }

    #[test]
    fn a_fail_rate_is_spread_evenly() {
        let script = Script { status: Some(500), fail_rate: 0.5, ..Script::default() };
        assert_eq!(statuses(script, 4), [200, 500, 200, 500]);
        let tenth = Script { status: Some(500), fail_rate: 0.1, ..Script::default() };
        assert_eq!(statuses(tenth, 100).iter().filter(|status| **status == 500).count(), 10);
    }
}
