//! Golden files of the interface: `golden/responses-…`.

use domain::{
    fault::Code,
    inference::{Embed, Generate, Message, Request, Role, ToolChoice, Translate},
};

use super::*;
use crate::provider::{
    Api, Reader, Target,
    golden::{envelope, everything, holds_streams, plain, read, says, text},
    openai::{
        Flavor,
        golden::{GOLDEN, responses, written},
    },
};

/// What the interface takes of everything.
fn much() -> Generate {
    let mut request = everything();
    request.sampling = domain::inference::Sampling {
        max_tokens: Some(64),
        temperature: Some(0.7),
        top_p: Some(0.95),
        ..Default::default()
    };
    request.messages[2].name.clear();
    request.messages[2].content[2].content = domain::inference::PartContent::Json(
        r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,AA=="}}"#
            .to_owned(),
    );
    request.messages[3].extra_json = r#"{"reasoning_content":"because","refusal":null,"phase":"commentary",
        "output_items":[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}]}"#
        .to_owned();
    request.envelope = envelope(
        r#"{"reasoning_effort":"high","reasoning":{"summary":"auto"},"verbosity":"low","logprobs":true,"top_logprobs":2,
            "parallel_tool_calls":false,"user":"u-1","metadata":{"a":"b"},"n":1,"truncation":"auto",
            "stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
    );
    request
}

#[test]
fn a_stream_is_whole_or_none_however_it_comes() {
    let ended = |came: &[u8]| {
        let came = String::from_utf8_lossy(came);
        came.contains("\"type\":\"response.completed\"") || came.contains("\"type\":\"response.incomplete\"")
    };
    holds_streams(&GOLDEN.recorded("responses", "sse"), || Decoder::new("acme"), ended);
}

#[test]
fn conversations_become_items() {
    let defaults =
        r#"{"include":[],"reasoning":{"effort":"low","summary":"detailed"},"tools":[{"type":"web_search"}]}"#;
    let research = Target { defaults: defaults.to_owned(), ..responses() };
    let translate = Translate {
        envelope: envelope(""),
        text: "Guten Tag".to_owned(),
        source_language: None,
        target_language: "en".to_owned(),
        stream: true,
    };
    let refused = Message {
        extra_json: r#"{"refusal":"no"}"#.to_owned(),
        ..says(Role::Assistant, vec![text("Well,")])
    };
    let again = Generate {
        messages: vec![says(Role::User, vec![text("a")]), refused, says(Role::User, vec![text("b")])],
        tool_choice: Some(ToolChoice::Required),
        ..plain()
    };
    let embed = Embed { envelope: envelope(""), inputs: vec!["one".to_owned()], dimensions: None };
    for (name, request, target) in [
        ("responses-plain", Request::Generate(plain()), &responses()),
        ("responses-much", Request::Generate(much()), &responses()),
        ("responses-defaults", Request::Generate(plain()), &research),
        ("responses-translate", Request::Translate(translate), &responses()),
        ("responses-refused", Request::Generate(again), &responses()),
        ("responses-embed", Request::Embed(embed), &responses()),
    ] {
        GOLDEN.compare("encode", name, &written(&request, target, Flavor::OpenAi).unwrap());
    }
}

#[test]
fn what_the_interface_lacks_is_refused_by_name() {
    let with = |extra: &str| Generate { envelope: envelope(extra), ..plain() };
    let drawn = |change: fn(&mut Generate)| {
        let mut request = plain();
        change(&mut request);
        request
    };
    let unsupported = [
        (with(r#"{"logit_bias":{"1":2}}"#), "logit_bias"),
        (with(r#"{"prediction":{"type":"content"}}"#), "prediction"),
        (with(r#"{"background":true}"#), "background"),
        (drawn(|request| request.sampling.seed = Some(1)), "seed"),
        (drawn(|request| request.sampling.stop = vec!["x".to_owned()]), "stop"),
        (drawn(|request| request.sampling.top_k = Some(1)), "top_k"),
        (drawn(|request| request.sampling.presence_penalty = Some(1.0)), "presence_penalty"),
        (drawn(|request| request.messages[0].name = "ann".to_owned()), "messages[0].name"),
        (drawn(|request| request.messages = everything().messages[2..3].to_vec()), "messages[0].name"),
    ];
    for (request, field) in unsupported {
        let fault = written(&Request::Generate(request), &responses(), Flavor::OpenAi).unwrap_err();
        assert_eq!(
            (fault.code, fault.field.as_str(), fault.retryable),
            (Code::Unsupported, field, true),
            "{fault}"
        );
    }
    for (extra, field) in [
        (r#"{"model":"dearer"}"#, "extra_json.model"),
        (r#"{"input":"other"}"#, "extra_json.input"),
        (r#"{"include":7}"#, "extra_json.include"),
        (r#"{"reasoning_effort":"low","reasoning":{"effort":"high"}}"#, "extra_json.reasoning.effort"),
    ] {
        let fault = written(&Request::Generate(with(extra)), &responses(), Flavor::OpenAi).unwrap_err();
        assert_eq!((fault.code, fault.field.as_str()), (Code::InvalidArgument, field), "{fault}");
    }
    assert_eq!(responses().api, Api::Responses);
}

#[test]
fn whole_answers_become_pieces_and_an_end() {
    for (name, body) in GOLDEN.recorded("responses", "json") {
        let outcome = Decoder::new("acme").whole(&body);
        GOLDEN.compare("responses", &format!("whole-{name}"), &format!("{outcome:#?}\n"));
    }
}

#[test]
fn streams_become_pieces_and_an_end() {
    for (name, bytes) in GOLDEN.recorded("responses", "sse") {
        let (items, outcome) = read(&mut Decoder::new("acme"), &[&bytes]);
        GOLDEN.compare("responses", &name, &format!("{items:#?}\n{outcome:#?}\n"));
    }
}

#[test]
fn reasoning_goes_back_before_what_it_led_to() {
    let (_, stream) =
        GOLDEN.recorded("responses", "sse").into_iter().find(|(name, _)| name == "agent").unwrap();
    let (items, outcome) = read(&mut Decoder::new("acme"), &[&stream]);
    assert_eq!(outcome.unwrap().finish_reason, v1::FinishReason::ToolCalls);
    // as a client puts the pieces together
    let extra =
        items.iter().find(|item| item.extra_json.contains("output_items")).unwrap().extra_json.clone();
    let calls = items.iter().flat_map(|item| &item.tool_calls).map(|call| domain::inference::ToolCall {
        id: call.id.clone(),
        name: call.name.clone(),
        arguments_json: call.arguments_json.clone(),
        extra_json: call.extra_json.clone(),
    });
    let mut request = plain();
    request.messages.push(Message {
        tool_calls: calls.collect(),
        extra_json: extra,
        ..says(Role::Assistant, vec![text("I look.")])
    });
    let again = written(&Request::Generate(request), &responses(), Flavor::OpenAi).unwrap();
    let places: Vec<_> = ["rs_1", "I look.", "rs_2", "call_1", "rs_3", "call_2"]
        .map(|what| again.find(what).expect(what))
        .into();
    assert!(places.is_sorted(), "{places:?} in {again}");
}

#[test]
fn what_the_answer_says_is_what_goes_back() {
    let (_, body) =
        GOLDEN.recorded("responses", "json").into_iter().find(|(name, _)| name == "reasoning").unwrap();
    let answer = Decoder::new("acme").whole(&body).unwrap();
    let kept = answer.items.iter().find(|item| item.extra_json.contains("encrypted_content")).unwrap();
    let mut request = plain();
    request
        .messages
        .push(Message { extra_json: kept.extra_json.clone(), ..says(Role::Assistant, vec![text("x")]) });
    let again = written(&Request::Generate(request), &responses(), Flavor::OpenAi).unwrap();
    assert!(again.contains("gAAAreasoning"), "{again}");
}
