use prost::Message;

use super::*;

fn deployment(id: &str) -> v1::Deployment {
    v1::Deployment {
        id: id.to_owned(),
        model: "demo".to_owned(),
        provider: "llama.cpp".to_owned(),
        tier: v1::Tier::LocalCpu.into(),
        machine: "mainpc".to_owned(),
        executor: "demo".to_owned(),
        context_length: 2_048,
        slots: 4,
        free: true,
        state: v1::DeploymentState::Warm.into(),
        ..v1::Deployment::default()
    }
}

fn message(deployments: Vec<v1::Deployment>) -> v1::Registration {
    v1::Registration {
        service: "local-model-pool".to_owned(),
        instance: "i1".to_owned(),
        machine: "mainpc".to_owned(),
        version: "1".to_owned(),
        started_unix_ms: 1,
        deployments,
    }
}

const KEY: &str = "mainpc.reg.local-model-pool.i1";

#[test]
fn a_deployment_with_a_mistake_is_left_out_and_the_others_stay() {
    let good = deployment("mainpc/llama.cpp/demo");
    let changed = |change: fn(&mut v1::Deployment)| {
        let mut bad = deployment("mainpc/llama.cpp/bad");
        change(&mut bad);
        bad
    };
    for (what, bad) in [
        ("an id with a space", deployment("a b")),
        ("no tier", changed(|bad| bad.tier = 0)),
        ("a machine of somebody else", changed(|bad| bad.machine = "pc2".to_owned())),
        ("an executor that widens the subject", changed(|bad| bad.executor = "a.>".to_owned())),
        ("no executor", changed(|bad| bad.executor.clear())),
        ("an id that is taken", good.clone()),
        (
            "a negative price",
            changed(|bad| {
                bad.free = false;
                bad.price = Some(v1::Price { input: -1, ..v1::Price::default() });
            }),
        ),
    ] {
        let payload = message(vec![good.clone(), bad]).encode_to_vec();
        let (registered, faults) = registration(KEY, &payload).unwrap();
        assert_eq!(registered.deployments, std::slice::from_ref(&good), "{what}");
        assert_eq!(faults.len(), 1, "{what}");
    }
}

#[test]
fn a_registration_under_another_key_is_refused() {
    let payload = message(vec![]).encode_to_vec();
    for key in
        ["pc2.reg.local-model-pool.i1", "mainpc.reg.local-model-pool.i2", "mainpc.reg.remote-api-adapter.i1"]
    {
        assert!(matches!(registration(key, &payload), Err(Refused::OtherInstance(_))), "{key} was accepted");
    }
    registration(KEY, &payload).unwrap();
}

#[test]
fn bytes_that_are_no_message_and_names_that_are_no_token_are_refused() {
    assert!(matches!(registration(KEY, b"\xff\xff"), Err(Refused::Decode(_))));
    let wild = v1::Registration { service: "a.>".to_owned(), ..message(vec![]) };
    assert!(matches!(registration(KEY, &wild.encode_to_vec()), Err(Refused::Name(_))));
    let many = message(vec![v1::Deployment::default(); DEPLOYMENTS_MAX + 1]);
    assert!(matches!(registration(KEY, &many.encode_to_vec()), Err(Refused::TooMany(_))));
}

#[test]
fn a_heartbeat_counts_only_on_its_own_subject() {
    let prefix = Prefix::default();
    let beat = v1::ServiceHeartbeat {
        service: "local-model-pool".to_owned(),
        instance: "i1".to_owned(),
        machine: "mainpc".to_owned(),
        in_flight: 3,
        ..v1::ServiceHeartbeat::default()
    };
    let payload = beat.encode_to_vec();
    let heard = heartbeat(&prefix, "llm.v1.hb.mainpc.local-model-pool.i1", &payload, 7).unwrap();
    assert_eq!((heard.heard_unix_ms, heard.in_flight), (7, 3));
    for subject in ["llm.v1.hb.pc2.local-model-pool.i1", "other.v1.hb.mainpc.local-model-pool.i1"] {
        assert!(
            matches!(heartbeat(&prefix, subject, &payload, 7), Err(Refused::OtherInstance(_))),
            "{subject}"
        );
    }
}
