use super::*;

fn of(user: User) -> Rights {
    rights(user, &NodeId::new("mainpc").unwrap(), &Prefix::default())
}

#[test]
fn what_is_private_has_no_way_but_to_local_executors_and_back() {
    let rights = of(User::CoordinatorPrivate);
    assert_eq!(rights.publish, ["_INBOX.request-coordinator-private.>", "llm.v1.exec.local.*.>"]);
    assert_eq!(rights.subscribe, ["_INBOX.request-coordinator-private.>"]);
}

#[test]
fn only_the_coordinator_publishes_to_executors_and_each_plane_is_heard_by_its_own() {
    for user in User::ALL {
        let Rights { publish, subscribe } = of(user);
        let holds = |list: &[String], text: &str| list.iter().any(|subject| subject.contains(text));
        let coordinator = user == User::Coordinator;
        assert_eq!(holds(&publish, ".exec.cloud."), coordinator, "{user:?}");
        assert_eq!(
            holds(&publish, ".exec.local."),
            // the pool hands on to its engines what came while they were cold
            coordinator || matches!(user, User::CoordinatorPrivate | User::Pool),
            "{user:?}"
        );
        assert_eq!(holds(&subscribe, ".exec.cloud."), user == User::Adapter, "{user:?}");
        assert_eq!(holds(&subscribe, ".exec.local."), user == User::Pool, "{user:?}");
    }
}

#[test]
fn nobody_has_everything_and_nobody_changes_or_deletes_a_stream() {
    for user in User::ALL {
        let Rights { publish, subscribe } = of(user);
        for subject in publish.iter().chain(&subscribe) {
            let open = [">", "$JS.>", "$JS.API.>", "$KV.>", "_INBOX.>", "llm.>", "llm.v1.>", "$SYS.>"];
            assert!(!open.contains(&subject.as_str()), "{user:?} has {subject}");
            let changes = ["STREAM.UPDATE", "STREAM.DELETE", "STREAM.RESTORE", "STREAM.MSG.DELETE"];
            assert!(!changes.iter().any(|verb| subject.contains(verb)), "{user:?} has {subject}");
        }
    }
}

/// The files that the compose files' servers read; `UPDATE_GENERATED=1` writes them again.
#[test]
fn the_committed_accounts_are_those_of_the_table() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/nats");
    for machine in ["mainpc", "pc2"] {
        let file = folder.join(format!("accounts-{machine}.conf"));
        let wanted = accounts_file(&NodeId::new(machine).unwrap(), &Prefix::default());
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&file, &wanted).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(there == wanted, "{} differs: run this test with UPDATE_GENERATED=1", file.display());
    }
}
