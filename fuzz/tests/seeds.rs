//! Every seed through its target, without libFuzzer: recordings, requests, and what fuzzing has found.

#[test]
fn every_seed_holds() {
    for target in fuzz::targets().unwrap() {
        assert!(!target.seeds.is_empty(), "{} starts from nothing", target.name);
        for (number, seed) in target.seeds.iter().enumerate() {
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target.run(seed)));
            assert!(held.is_ok(), "seed {number} of {}", target.name);
        }
    }
}

#[test]
fn seeds_that_are_cut_hold_too() {
    for target in fuzz::targets().unwrap() {
        for seed in &target.seeds {
            let step = seed.len().div_ceil(64).max(1);
            for end in (0..seed.len()).step_by(step) {
                target.run(&seed[..end]);
            }
        }
    }
}

#[test]
fn targets_have_names_of_their_own() {
    let targets = fuzz::targets().unwrap();
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    assert!(names.contains(&"openai-stream") && names.contains(&"wire-requests"), "{names:?}");
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{names:?}");
}
