//! Who goes when room is needed.

use crate::id::ModelName;
use crate::units::Bytes;

/// A model that may go.
#[derive(Debug, Clone)]
pub(super) struct Leaver {
    pub(super) name: ModelName,
    pub(super) memory: Bytes,
    pub(super) busy: bool,
    /// What is lost if it goes.
    pub(super) cost: f64,
}

/// What is needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// So many models fewer.
    pub(super) models: usize,
    /// So much memory more.
    pub(super) bytes: Bytes,
}

impl Need {
    pub(super) fn is_met_by<'a>(&self, leavers: impl Iterator<Item = &'a Leaver>) -> bool {
        let (mut models, mut bytes) = (0, 0_u64);
        for leaver in leavers {
            models += 1;
            bytes = bytes.saturating_add(leaver.memory.get());
        }
        models >= self.models && bytes >= self.bytes.get()
    }
}

/// The models that go: idle before busy, cheap before dear, and none that need not. `None` = all together are not enough.
pub(super) fn choose(mut leavers: Vec<Leaver>, need: Need) -> Option<Vec<ModelName>> {
    leavers.sort_by(|a, b| {
        a.busy.cmp(&b.busy).then(a.cost.total_cmp(&b.cost)).then_with(|| a.name.cmp(&b.name))
    });
    let enough = (0..=leavers.len()).find(|count| need.is_met_by(leavers.iter().take(*count)))?;
    leavers.truncate(enough);
    // a large one at the end may make earlier ones unnecessary: the dearest is spared first
    for index in (0..leavers.len()).rev() {
        let without =
            leavers.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, leaver)| leaver);
        if need.is_met_by(without) {
            leavers.remove(index);
        }
    }
    Some(leavers.into_iter().map(|leaver| leaver.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaver(name: &str, memory: u64, busy: bool, cost: f64) -> Leaver {
        Leaver { name: ModelName::new(name).unwrap(), memory: Bytes::new(memory), busy, cost }
    }

    fn chosen(leavers: &[Leaver], models: usize, bytes: u64) -> Option<Vec<String>> {
        let need = Need { models, bytes: Bytes::new(bytes) };
        choose(leavers.to_vec(), need).map(|names| names.into_iter().map(ModelName::into_string).collect())
    }

    #[test]
    fn the_idle_one_goes_before_the_busy_one_and_the_cheap_one_before_the_dear_one() {
        let all = [leaver("a", 5, true, 1.0), leaver("b", 5, false, 9.0), leaver("c", 5, false, 3.0)];
        assert_eq!(chosen(&all, 1, 0).unwrap(), ["c"]);
        assert_eq!(chosen(&all, 1, 6).unwrap(), ["c", "b"]);
        assert_eq!(chosen(&all, 3, 6).unwrap(), ["c", "b", "a"]);
    }

    #[test]
    fn nobody_goes_who_need_not() {
        let all = [leaver("small", 1, false, 1.0), leaver("large", 9, false, 2.0)];
        assert_eq!(chosen(&all, 1, 9).unwrap(), ["large"]);
        assert_eq!(chosen(&all, 0, 0).unwrap(), [""; 0]);
    }

    #[test]
    fn where_all_are_not_enough_nobody_goes() {
        assert_eq!(chosen(&[leaver("a", 5, false, 1.0)], 1, 6), None);
        assert_eq!(chosen(&[], 1, 0), None);
    }
}
