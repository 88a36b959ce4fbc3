use super::*;

fn request() -> v1::GenerateRequest {
    v1::GenerateRequest {
        request_id: "r1".to_owned(),
        messages: vec![v1::Message {
            role: v1::Role::User.into(),
            content: vec![v1::ContentPart {
                part: Some(v1::content_part::Part::Text("hello".to_owned())),
                extra_json: r#"{"cache_control":{"type":"ephemeral"}}"#.to_owned(),
            }],
            ..v1::Message::default()
        }],
        ..v1::GenerateRequest::default()
    }
}

fn refused(change: impl FnOnce(&mut v1::GenerateRequest)) -> Fault {
    let mut wire = request();
    change(&mut wire);
    Generate::try_from(wire).unwrap_err()
}

fn sampled(sampling: v1::Sampling) -> Fault {
    refused(|wire| wire.sampling = Some(sampling))
}

#[test]
fn every_bad_field_is_named() {
    let cases = [
        ("messages", refused(|wire| wire.messages.clear())),
        ("messages[0].content", refused(|wire| wire.messages[0].content.clear())),
        ("messages[0].role", refused(|wire| wire.messages[0].role = 99)),
        ("messages[0].content[0]", refused(|wire| wire.messages[0].content[0].part = None)),
        ("agent", refused(|wire| wire.agent = "a.b".to_owned())),
        ("model", refused(|wire| wire.model = "a\nb".to_owned())),
        ("request_id", refused(|wire| wire.request_id = "x y".to_owned())),
        ("extra_json", refused(|wire| wire.extra_json = "[1]".to_owned())),
        ("deadline_ms", refused(|wire| wire.deadline_ms = u64::MAX)),
        ("temperature", sampled(v1::Sampling { temperature: Some(9.0), ..Default::default() })),
        ("temperature", sampled(v1::Sampling { temperature: Some(f32::NAN), ..Default::default() })),
        ("top_p", sampled(v1::Sampling { top_p: Some(0.0), ..Default::default() })),
        ("top_k", sampled(v1::Sampling { top_k: Some(0), ..Default::default() })),
        ("max_tokens", sampled(v1::Sampling { max_tokens: Some(0), ..Default::default() })),
        ("presence_penalty", sampled(v1::Sampling { presence_penalty: Some(-3.0), ..Default::default() })),
        ("stop[0]", sampled(v1::Sampling { stop: vec![String::new()], ..Default::default() })),
        ("tools[0].name", refused(|wire| wire.tools = vec![v1::Tool::default()])),
    ];
    for (field, fault) in cases {
        assert_eq!((fault.code, fault.field.as_str()), (Code::InvalidArgument, field), "{fault}");
        assert!(fault.message.contains("expected"), "{fault}");
    }
}

#[test]
fn fields_that_are_not_modelled_are_carried() {
    let mut wire = request();
    wire.extra_json = r#"{"logit_bias":{"50256":-100}}"#.to_owned();
    let checked = Generate::try_from(wire).unwrap();
    assert_eq!(checked.envelope.extra_json, r#"{"logit_bias":{"50256":-100}}"#);
    assert_eq!(checked.messages[0].content[0].extra_json, r#"{"cache_control":{"type":"ephemeral"}}"#);
}

#[test]
fn a_privacy_of_a_newer_version_is_taken_as_local_only() {
    let mut wire = request();
    wire.profile = Some(v1::TaskProfile { privacy: 77, ..Default::default() });
    assert_eq!(Generate::try_from(wire).unwrap().envelope.profile.privacy, Privacy::LocalOnly);
}

#[test]
fn a_language_must_be_a_tag() {
    let wire = v1::TranslateRequest {
        request_id: "r1".to_owned(),
        text: "hello".to_owned(),
        target_language: "klingon language".to_owned(),
        ..Default::default()
    };
    assert_eq!(Translate::try_from(wire).unwrap_err().field, "target_language");
}
