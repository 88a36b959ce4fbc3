use domain::{
    units::Bytes,
    vram::{GpuId, ProcessUse},
};
use vram_optimizer::gpus::{Gpu, GpuError, Gpus, nvml::NvmlGpus};

use e2e::nvml::{Card, IDLE};

const OTHER: &str = "Card B;GPU-bbbb;8192;100;0;0;30;10000;;";

fn gpus(card: &Card) -> NvmlGpus {
    NvmlGpus::new(Some(card.library()))
}

fn is_lost<T: std::fmt::Debug>(result: &Result<T, GpuError>) -> bool {
    matches!(result, Err(GpuError::Lost { .. }))
}

fn is_absent<T: std::fmt::Debug>(result: &Result<T, GpuError>) -> bool {
    matches!(result, Err(GpuError::Absent { .. }))
}

#[test]
fn one_card_is_read_with_all_its_figures() {
    let card = Card::new("Card A;GPU-aaaa;24576;2576;37;12;64;250500;100=1500;200=500,100=1500,300=?");
    let snapshot = gpus(&card).snapshot().unwrap();
    let expected = Gpu {
        index: 0,
        name: "Card A".to_owned(),
        id: GpuId::new("GPU-aaaa"),
        total: Bytes::mebibytes(24_576),
        used: Bytes::mebibytes(2_576),
        utilization_percent: Some(37),
        temperature_celsius: Some(64),
        power_milliwatts: Some(250_500),
        processes: vec![
            ProcessUse { pid: 100, used: Bytes::mebibytes(1_500) },
            ProcessUse { pid: 200, used: Bytes::mebibytes(500) },
        ],
    };
    assert_eq!(snapshot.gpus, [expected]);
    assert_eq!(snapshot.unreadable, []);
}

#[test]
fn two_cards_are_read_in_the_drivers_order() {
    let card = Card::new(&format!("{IDLE}\n{OTHER}\n"));
    let snapshot = gpus(&card).snapshot().unwrap();
    let seen: Vec<(u32, &str)> = snapshot.gpus.iter().map(|gpu| (gpu.index, gpu.id.as_str())).collect();
    assert_eq!(seen, [(0, "GPU-aaaa"), (1, "GPU-bbbb")]);
}

#[test]
fn each_snapshot_sees_the_card_as_it_is_then() {
    let card = Card::new(IDLE);
    let mut gpus = gpus(&card);
    assert_eq!(gpus.snapshot().unwrap().gpus[0].used, Bytes::mebibytes(576));
    card.describe("Card A;GPU-aaaa;24576;12864;99;50;70;300000;;4711=12288");
    let game = &gpus.snapshot().unwrap().gpus[0];
    assert_eq!(game.used, Bytes::mebibytes(12_864));
    assert_eq!(game.processes, [ProcessUse { pid: 4_711, used: Bytes::mebibytes(12_288) }]);
}

#[test]
fn a_figure_that_a_card_does_not_have_is_left_out() {
    let card = Card::new("Card A;GPU-aaaa;24576;576;-;-;-;-;;");
    let gpu = gpus(&card).snapshot().unwrap().gpus.remove(0);
    assert_eq!((gpu.utilization_percent, gpu.temperature_celsius, gpu.power_milliwatts), (None, None, None));
}

#[test]
fn a_card_that_does_not_tell_its_memory_is_not_planned_on() {
    let card = Card::new(&format!("Card A;GPU-aaaa;-;-;1;1;1;1;;\n{OTHER}"));
    let snapshot = gpus(&card).snapshot().unwrap();
    assert_eq!(snapshot.gpus.len(), 1);
    assert!(matches!(snapshot.unreadable.as_slice(), [(0, _)]), "{:?}", snapshot.unreadable);
}

#[test]
fn one_lost_card_leaves_the_other() {
    let card = Card::new(&format!("{IDLE}\n{OTHER}\n!lost 0 15\n"));
    let mut gpus = gpus(&card);
    let snapshot = gpus.snapshot().unwrap();
    assert_eq!(snapshot.gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [1]);
    assert_eq!(snapshot.unreadable.len(), 1);
    card.describe(&format!("{IDLE}\n{OTHER}\n"));
    assert_eq!(gpus.snapshot().unwrap().gpus.len(), 2);
}

#[test]
fn a_lost_gpu_comes_back_by_itself() {
    let card = Card::new(IDLE);
    let mut gpus = gpus(&card);
    gpus.snapshot().unwrap();
    for fails in ["!fail 15", "!lost 0 15", "!fail 999", "!init 9", "!init 18"] {
        // Twice: the first call may still use the library that was loaded, the second loads it again.
        card.describe(&format!("{fails}\n{IDLE}"));
        let (first, second) = (gpus.snapshot(), gpus.snapshot());
        assert!(first.is_ok() == fails.starts_with("!init"), "{fails}: {first:?}");
        if first.is_err() {
            assert!(is_lost(&first) && is_lost(&second), "{fails}: {first:?}, {second:?}");
        }
        card.describe(IDLE);
        assert_eq!(gpus.snapshot().unwrap().gpus.len(), 1, "after {fails}");
    }
}

#[test]
fn a_driver_that_goes_away_is_lost_and_not_absent() {
    let card = Card::new(IDLE);
    let mut gpus = gpus(&card);
    gpus.snapshot().unwrap();
    card.uninstall();
    card.describe(&format!("!fail 15\n{IDLE}"));
    assert!(is_lost(&gpus.snapshot()));
    // Loaded anew, there is nothing to load.
    assert!(is_lost(&gpus.snapshot()));
    card.install();
    card.describe(&format!("!init 9\n{IDLE}"));
    assert!(is_lost(&gpus.snapshot()));
    card.describe(IDLE);
    assert!(gpus.snapshot().is_ok());
}

#[test]
fn a_machine_without_driver_or_card_has_no_gpu() {
    let card = Card::new("# no card\n");
    let mut gpus = gpus(&card);
    assert!(is_absent(&gpus.snapshot()));
    card.describe(&format!("!init 9\n{IDLE}"));
    assert!(is_absent(&gpus.snapshot()), "driver not loaded");
    card.uninstall();
    assert!(is_absent(&gpus.snapshot()), "no library");
    card.install();
    card.describe(IDLE);
    assert!(gpus.snapshot().is_ok(), "a driver that is installed later is found");
}

#[test]
fn a_driver_that_does_not_answer_at_the_start_is_lost() {
    // 18 = driver and library don't match: there is a GPU, after an upgrade without a reboot.
    let card = Card::new(&format!("!init 18\n{IDLE}"));
    assert!(is_lost(&gpus(&card).snapshot()));
}
