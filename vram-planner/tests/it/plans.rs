//! REQ-VRAM-PLAN: where it fits, with how much, and why not; never an answer that its own numbers contradict.

use api_types::ModelFacts;
use proptest::prelude::*;
use vram_planner::{Allowance, Device, Load, Plan, Request, need, plan};

use crate::fixtures::{GIB, MODEL, device, llama_8b, load};

fn asked(facts: &ModelFacts, load: Load, devices: u32) -> Request<'_> {
    Request {
        model: MODEL,
        facts,
        load,
        devices,
        allowance: Allowance::default(),
    }
}

fn answer(load: Load, gpus: u32, devices: &[Device]) -> Plan {
    plan(&asked(&llama_8b(), load, gpus), devices, &[]).unwrap()
}

#[test]
fn the_device_with_room_comes_first() {
    let devices = [
        device("a", 24, &[("x", 20)], 0),
        device("b", 16, &[], 2),
        device("c", 24, &[], 1),
    ];
    let plan = answer(load(8192, 2), 1, &devices);
    let order: Vec<&str> = plan
        .verdicts
        .iter()
        .map(|verdict| verdict.devices[0].as_str())
        .collect();
    assert_eq!(order, ["c", "b", "a"]);
    assert!(plan.fits() && !plan.verdicts[2].fits);
    assert_eq!(plan.verdicts[2].without, Some(vec!["x".to_owned()]));
}

#[test]
fn what_would_fit_is_told_and_does_fit() {
    let devices = [device("GPU-a", 8, &[], 1)];
    let plan = answer(load(8192, 4), 1, &devices);
    let best = plan.best().unwrap();
    assert!(!best.fits);
    let with = |ctx, slots| answer(load(ctx, slots), 1, &devices).fits();
    assert!(best.most_ctx > 0 && best.most_slots > 0, "{best}");
    assert!(with(best.most_ctx, 4) && !with(best.most_ctx + 256, 4));
    assert!(with(8192, best.most_slots) && !with(8192, best.most_slots + 1));
    assert_eq!(best.without, None, "nothing of ours is there");
}

#[test]
fn the_reason_has_the_numbers() {
    let mut busy = device("GPU-a", 24, &[("chat", 12), ("embed", 2)], 3);
    busy.reserved = GIB;
    let plan = answer(load(8192, 4), 1, &[busy]);
    assert_eq!(
        plan.best().unwrap().to_string(),
        "needs 9.6 GiB (estimated: weights 4.4 GiB, cache 4.0 GiB, compute 0.4 GiB, beyond 1.0 GiB), free 6.0 GiB on GPU-a, \
         because of 12.0 GiB of pool chat, 3.0 GiB of other programs, 2.0 GiB of pool embed, 1.0 GiB of the configured \
         reservation; it would fit with a context of 1024 per slot, or unloading chat"
    );
    let small = answer(load(8192, 4), 1, &[device("GPU-b", 4, &[], 0)]);
    let text = small.best().unwrap().to_string();
    assert!(
        text.ends_with("because that is more than all of its 4.0 GiB"),
        "{text}"
    );
    let fits = answer(load(8192, 1), 1, &[device("GPU-c", 24, &[], 0)])
        .best()
        .unwrap()
        .to_string();
    assert!(fits.ends_with("free 24.0 GiB on GPU-c"), "{fits}");
}

#[test]
fn a_split_needs_room_on_each() {
    let devices = [
        device("a", 8, &[], 0),
        device("b", 8, &[], 0),
        device("c", 8, &[("x", 7)], 0),
    ];
    assert!(!answer(load(8192, 4), 1, &devices).fits());
    let plan = answer(load(8192, 4), 2, &devices);
    let best = plan.best().unwrap();
    assert!(best.fits && best.devices == ["a", "b"], "{best}");
    assert!(best.to_string().contains("on each of 2 GPUs"));
    assert!(answer(load(8192, 4), 4, &devices).verdicts.is_empty());
}

proptest! {
    #[test]
    fn a_plan_never_contradicts_its_numbers(
        ctx in 1_u64..200_000,
        slots in 1_u32..64,
        gpus in 1_u32..4,
        sizes in proptest::collection::vec((1_u64..100, 0_u64..100, 0_u64..100), 0..5),
    ) {
        let devices: Vec<Device> = sizes
            .iter()
            .enumerate()
            .map(|(at, &(total, ours, others))| {
                let ours = ours * total / 200;
                device(&format!("{at}"), total, &[("x", ours / 2), ("y", ours - ours / 2)], others * (total - ours) / 200)
            })
            .collect();
        let load = load(ctx, slots);
        let needed = need(&MODEL, &llama_8b(), &load, gpus, &[], Allowance::default()).unwrap();
        let plan = answer(load, gpus, &devices);
        let enough = devices.iter().filter(|device| device.free >= needed.per_device).count();
        prop_assert_eq!(plan.fits(), enough >= gpus as usize);
        for verdict in &plan.verdicts {
            prop_assert_eq!(verdict.fits, verdict.need.per_device <= verdict.room);
            prop_assert_eq!(verdict.fits, verdict.most_ctx >= ctx, "{}", verdict);
            prop_assert_eq!(verdict.fits, verdict.most_slots >= slots, "{}", verdict);
            if verdict.fits {
                prop_assert_eq!(verdict.without.as_deref(), Some(&[][..]));
            }
            prop_assert!(verdict.to_string().starts_with("needs "));
        }
    }
}
