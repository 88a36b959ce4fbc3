//! What is refused before the provider hears of it, and by which name.

use domain::fault::{Code, Fault};
use wire::v1::{self, batch_item::Request, submit_provider_job_request::Kind};

use super::world::{World, asks, batch};

fn changed(change: impl FnOnce(&mut v1::GenerateRequest)) -> v1::SubmitProviderJobRequest {
    let mut item = asks("b", "hello");
    if let Some(Request::Generate(request)) = &mut item.request {
        change(request);
    }
    batch("j", vec![asks("a", "hello"), item])
}

fn on(model: &str) -> v1::SubmitProviderJobRequest {
    v1::SubmitProviderJobRequest { model: model.to_owned(), ..batch("j", vec![asks("a", "hello")]) }
}

#[tokio::test]
async fn each_mistake_is_named_and_leaves_no_job_behind() {
    let world = World::start().await;
    let tool = v1::Tool { name: "t".to_owned(), ..Default::default() };
    let local = v1::TaskProfile { privacy: v1::Privacy::LocalOnly.into(), ..Default::default() };
    let vector = v1::BatchItem {
        custom_id: "v".to_owned(),
        request: Some(Request::Embed(v1::EmbedRequest {
            inputs: vec!["a".to_owned()],
            ..Default::default()
        })),
    };
    let cases = [
        (on("nowhere"), Code::NotFound, "model"),
        (on("dear"), Code::Unsupported, "model"),
        (batch("a b", vec![asks("a", "x")]), Code::InvalidArgument, "job_id"),
        (batch("j", Vec::new()), Code::InvalidArgument, "batch.items"),
        (batch("j", vec![asks("a b", "x")]), Code::InvalidArgument, "batch.items[0].custom_id"),
        (batch("j", vec![asks("a", "x"), asks("a", "y")]), Code::InvalidArgument, "batch.items.custom_id"),
        (batch("j", vec![asks("a", "x"), vector]), Code::Unsupported, "batch.items[1].request"),
        (changed(|request| request.stream = true), Code::InvalidArgument, "batch.items[1].stream"),
        (changed(|request| request.deadline_ms = 1), Code::InvalidArgument, "batch.items[1].deadline_ms"),
        (changed(|request| request.model = "dear".to_owned()), Code::InvalidArgument, "batch.items[1].model"),
        (changed(|request| request.messages.clear()), Code::InvalidArgument, "batch.items[1].messages"),
        (
            changed(|request| request.profile = Some(local)),
            Code::PermissionDenied,
            "batch.items[1].profile.privacy",
        ),
        (
            changed(|request| request.extra_json = r#"{"n": 2}"#.to_owned()),
            Code::Unsupported,
            "batch.items[1].n",
        ),
        (
            v1::SubmitProviderJobRequest {
                model: "vectors".to_owned(),
                ..changed(|request| request.tools = vec![tool])
            },
            Code::Unsupported,
            "batch.items[0].request",
        ),
        (v1::SubmitProviderJobRequest { kind: None, ..on("small") }, Code::InvalidArgument, "kind"),
        (v1::SubmitProviderJobRequest { part: 3, ..on("small") }, Code::InvalidArgument, "part"),
    ];
    for (request, code, field) in cases {
        let fault = world.submit(request).await.unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (code, field), "{fault}");
    }
    assert!(world.list().await.is_empty());
    assert!(world.provider.calls("").is_empty(), "the provider was called");
    // none of them has used up its id
    world.submit(batch("j", vec![asks("a", "hello")])).await.unwrap();
    world.ended("j").await;
}

#[tokio::test]
async fn an_id_belongs_to_one_job_and_parts_come_in_order() {
    let world = World::start().await;
    let part = |part: u32, text: &str| v1::SubmitProviderJobRequest {
        part,
        last: false,
        ..batch("j", vec![asks(&format!("c{part}"), text)])
    };
    world.submit(part(0, "hello")).await.unwrap();
    assert_eq!(world.submit(part(2, "later")).await.unwrap_err().field, "part");
    assert_eq!(world.submit(part(0, "another")).await.unwrap_err().field, "job_id");
    let training = Kind::FineTune(v1::FineTunePart::default());
    let other = v1::SubmitProviderJobRequest { kind: Some(training), ..part(1, "") };
    assert_eq!(world.submit(other).await.unwrap_err().field, "job_id");
    assert_eq!(world.submit(part(1, "more")).await.unwrap().parts_received, 2);

    // a submission that is given up ends without a trace at the provider
    let job = world.cancel("j").await.unwrap();
    assert_eq!((job.state(), job.cancelling), (v1::ProviderJobState::Cancelled, false));
    assert_eq!(world.submit(part(2, "too late")).await.unwrap_err().field, "part");
    assert!(world.provider.calls("").is_empty());
}

#[tokio::test]
async fn what_is_no_call_is_answered_with_what_is_wrong() {
    let world = World::start().await;
    let client = world.client().await;
    for (method, payload) in [("submit", &b"\xff\xff"[..]), ("get", b"\xff"), ("nonsense", b"")] {
        let subject = format!("llm.v1.provider-job.mainpc.{method}");
        let reply = client.request(subject, payload.to_vec().into()).await.unwrap();
        let reply = <v1::ProviderJobReply as prost::Message>::decode(reply.payload).unwrap();
        let v1::provider_job_reply::Result::Error(error) = reply.result.unwrap() else { panic!("{method}") };
        let expected = if method == "nonsense" { "subject" } else { "payload" };
        assert_eq!(Fault::from(error).field, expected, "{method}");
    }
    assert_eq!(world.get("nobody").await.unwrap_err().code, Code::NotFound);
    assert_eq!(world.cancel("nobody").await.unwrap_err().code, Code::NotFound);
}
