//! What each user of the bus may do, asked of a real nats-server: exactly what is written here, and nothing of what the other
//! users may.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use async_nats::{ConnectOptions, Event};
use e2e::{Nats, nats, system::MACHINE};
use futures::StreamExt as _;
use wire::permission::User;

use User::{
    Adapter, Caller, Checker, Coordinator, CoordinatorPrivate, Forwarder, Hub, Manager, Operator, Pool,
    VramOptimizer,
};

/// A subject, and everybody who may publish to it.
const PUBLISH: &[(&str, &[User])] = &[
    ("llm.v1.exec.cloud.mainpc.openai", &[Coordinator]),
    ("llm.v1.exec.cloud.pc2.openai", &[Coordinator]),
    ("llm.v1.exec.local.mainpc.demo", &[Coordinator, CoordinatorPrivate, Pool]),
    ("llm.v1.exec.local.pc2.demo", &[Coordinator, CoordinatorPrivate]),
    ("llm.v1.req.generate", &[Caller, Operator]),
    ("llm.v1.agent.CodeGenerator.generate", &[Caller, Operator]),
    ("llm.v1.req.plan", &[Caller, Operator]),
    ("llm.v1.req.flag", &[Operator]),
    ("llm.v1.cancel.request-1", &[Caller, Coordinator, Operator]),
    ("llm.v1.budget.mainpc", &[Coordinator, Operator]),
    ("llm.v1.lease.gpu.mainpc", &[Pool, Operator]),
    ("llm.v1.provider-job.mainpc.submit", &[Operator]),
    ("llm.v1.hb.mainpc.local-model-pool.i1", &[Pool]),
    ("llm.v1.hb.mainpc.remote-api-adapter.i1", &[Adapter]),
    ("llm.v1.hb.pc2.remote-api-adapter.i1", &[]),
    ("usage.v1.mainpc.request-coordinator", &[Coordinator]),
    ("usage.v1.mainpc.remote-api-adapter", &[Adapter]),
    ("usage.v1.mainpc.observability-hub", &[]),
    ("evt.v1.model-manager-suite.budget-alert", &[Manager]),
    ("$KV.ctl.mainpc.route.snapshot", &[Manager]),
    ("$KV.ctl.pc2.route.snapshot", &[]),
    ("$KV.ctl.mainpc.flag.tier", &[Manager]),
    ("$KV.ctl.mainpc.flag.provider.openai", &[Manager]),
    ("$KV.ctl.mainpc.budget.book", &[Manager]),
    ("$KV.ctl.mainpc.reg.local-model-pool.i1", &[Pool, Manager]),
    ("$KV.ctl.mainpc.reg.remote-api-adapter.i1", &[Adapter, Manager]),
    ("$O.audio.C.file", &[Caller, Coordinator, Operator]),
    ("$JS.API.STREAM.PURGE.OBJ_audio", &[Coordinator, Operator]),
    ("$JS.API.CONSUMER.CREATE.USAGE.c", &[Manager, Hub, Operator]),
    ("$JS.API.STREAM.PURGE.USAGE", &[]),
    ("$JS.API.STREAM.DELETE.USAGE", &[]),
    ("$JS.API.STREAM.UPDATE.USAGE", &[]),
    ("$JS.mainpc.API.STREAM.DELETE.KV_ctl", &[]),
    ("$JS.API.STREAM.MSG.DELETE.KV_ctl", &[]),
    ("$JS.API.STREAM.CREATE.OTHER", &[]),
    ("$SYS.REQ.SERVER.PING", &[]),
    ("something.else", &[]),
    ("_INBOX.request-coordinator-private.1", &[CoordinatorPrivate, Pool]),
    ("_INBOX.request-coordinator.1", &[Coordinator, Manager, Adapter, Pool, Checker]),
    ("_INBOX.caller.1", &[Caller, Coordinator, Manager]),
    ("_INBOX.remote-api-adapter.1", &[Adapter]),
];

/// A pattern, and everybody who may subscribe to it.
const SUBSCRIBE: &[(&str, &[User])] = &[
    (">", &[]),
    ("llm.>", &[]),
    ("_INBOX.>", &[]),
    ("$KV.ctl.>", &[]),
    ("$O.audio.>", &[]),
    ("usage.v1.>", &[]),
    ("llm.v1.exec.cloud.mainpc.>", &[Adapter]),
    ("llm.v1.exec.cloud.pc2.>", &[]),
    ("llm.v1.exec.local.mainpc.>", &[Pool]),
    ("llm.v1.hb.mainpc.vram-optimizer.*", &[Manager, Operator, Pool]),
    ("llm.v1.exec.local.mainpc.demo", &[Pool]),
    ("llm.v1.req.generate", &[Coordinator]),
    ("llm.v1.agent.*.*", &[Coordinator]),
    ("llm.v1.req.flag", &[Manager]),
    ("llm.v1.cancel.*", &[Adapter, Pool]),
    ("llm.v1.hb.>", &[Manager, Operator]),
    ("llm.v1.budget.mainpc", &[Manager]),
    ("llm.v1.lease.gpu.mainpc", &[VramOptimizer]),
    ("llm.v1.provider-job.mainpc.*", &[Adapter]),
    ("evt.v1.>", &[Operator]),
    ("_INBOX.caller.>", &[Caller]),
    ("_INBOX.request-coordinator-private.>", &[CoordinatorPrivate]),
    ("_INBOX.metrics-forwarder.>", &[Forwarder]),
];

/// What the server denied this user of everything in both tables.
async fn denied(nats: &Nats, user: User) -> anyhow::Result<BTreeSet<String>> {
    let said = Arc::new(Mutex::new(BTreeSet::new()));
    let heard = Arc::clone(&said);
    let options = ConnectOptions::new().event_callback(move |event| {
        if let Event::ServerError(error) = event {
            let words = error.to_string();
            let operation = if words.contains("for Publish") { "publish" } else { "subscribe" };
            if let Some(subject) = words.split('"').nth(1) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{operation} {subject}"));
            }
        }
        async {}
    });
    let client = nats.client_with(options, user).await?;
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    for (subject, _) in PUBLISH {
        client.publish(*subject, "".into()).await?;
    }
    let mut kept = Vec::new();
    for (pattern, _) in SUBSCRIBE {
        kept.push(client.subscribe(*pattern).await?);
    }
    // The last in the table of what the server is to deny, so that everything before has been judged when it is told.
    client.subscribe("the.end").await?;
    client.publish(inbox, "".into()).await?;
    echo.next().await.context("the echo does not come back")?;
    let end = "subscribe the.end".to_owned();
    e2e::wait::until("the server's last denial", e2e::system::PATIENCE, async || {
        said.lock().unwrap_or_else(PoisonError::into_inner).contains(&end).then_some(())
    })
    .await?;
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
    said.remove(&end);
    Ok(said)
}

#[tokio::test]
async fn each_user_may_do_what_it_needs_and_nothing_that_only_others_need() -> anyhow::Result<()> {
    let options = nats::Options { domain: MACHINE.to_owned(), credentials: true, ..nats::Options::default() };
    let nats = Nats::start_with(options).await?;
    for user in User::ALL {
        let forbidden = |(subject, may): &(&str, &[User]), operation: &str| {
            // the server names its own domain's subjects without the domain
            let subject = subject.replace("$JS.mainpc.API", "$JS.API");
            (!may.contains(&user)).then(|| format!("{operation} {subject}"))
        };
        let wanted: BTreeSet<String> = PUBLISH
            .iter()
            .filter_map(|row| forbidden(row, "publish"))
            .chain(SUBSCRIBE.iter().filter_map(|row| forbidden(row, "subscribe")))
            .collect();
        let denied = denied(&nats, user).await?;
        let open: Vec<_> = wanted.difference(&denied).collect();
        let shut: Vec<_> = denied.difference(&wanted).collect();
        assert!(
            open.is_empty() && shut.is_empty(),
            "{user:?} may, and must not: {open:?}; may not, and must: {shut:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn who_has_no_key_or_another_is_not_let_in() -> anyhow::Result<()> {
    let options = nats::Options { domain: MACHINE.to_owned(), credentials: true, ..nats::Options::default() };
    let nats = Nats::start_with(options).await?;
    assert!(async_nats::connect(nats.url()).await.is_err());
    let stranger = nkeys::KeyPair::new_user().seed()?;
    assert!(ConnectOptions::with_nkey(stranger).connect(nats.url()).await.is_err());
    Ok(())
}
