use std::time::Duration;

use super::*;
use crate::{
    id::{AgentName, ModelName, RequestId, TaskName},
    inference::{
        Embed, Envelope, Generate, Message, Part, PartContent, Privacy, ResponseFormat, Role, Sampling,
        TaskProfile, Tool, ToolChoice, Translate,
    },
};

fn envelope() -> Envelope {
    Envelope {
        id: RequestId::new("r1").unwrap(),
        model: None,
        agent: None,
        profile: TaskProfile::default(),
        deadline: None,
        extra_json: String::new(),
    }
}

fn said(role: Role, text: &str) -> Message {
    Message {
        role,
        content: vec![Part { content: PartContent::Text(text.to_owned()), extra_json: String::new() }],
        tool_calls: Vec::new(),
        tool_call_id: String::new(),
        name: String::new(),
        extra_json: String::new(),
    }
}

fn generate(text: &str) -> Generate {
    Generate {
        envelope: envelope(),
        messages: vec![said(Role::User, text)],
        sampling: Sampling::default(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        stream: false,
    }
}

fn without_spaces(json: &str) -> String {
    json.split_whitespace().collect()
}

fn key(request: Generate) -> Vec<u8> {
    canonical(&Request::Generate(request), "a", &without_spaces)
}

#[test]
fn what_does_not_bear_on_the_answer_is_no_part_of_the_key() {
    let plain = generate("hello");
    let mut other = plain.clone();
    other.envelope.id = RequestId::new("r2").unwrap();
    other.envelope.deadline = Some(Duration::from_secs(1));
    other.stream = true;
    assert_eq!(key(plain), key(other));
}

#[test]
fn everything_that_bears_on_the_answer_is_a_part_of_the_key() {
    let plain = generate("hello");
    let changes: [fn(&mut Generate); 20] = [
        |r| r.messages = vec![said(Role::User, "hello ")],
        |r| r.messages = vec![said(Role::System, "hello")],
        |r| r.messages.insert(0, said(Role::System, "")),
        |r| r.messages = vec![said(Role::User, "hel"), said(Role::User, "lo")],
        |r| r.messages[0].name = "x".to_owned(),
        |r| r.messages[0].extra_json = "{\"a\":1}".to_owned(),
        |r| r.envelope.model = Some(ModelName::new("m").unwrap()),
        |r| r.envelope.agent = Some(AgentName::new("m").unwrap()),
        |r| r.envelope.profile.task = Some(TaskName::new("m").unwrap()),
        |r| r.envelope.profile.privacy = Privacy::LocalOnly,
        |r| r.envelope.extra_json = "{\"logprobs\":true}".to_owned(),
        |r| r.sampling.max_tokens = Some(1),
        |r| r.sampling.temperature = Some(0.5),
        |r| r.sampling.seed = Some(1),
        |r| r.sampling.stop = vec!["x".to_owned()],
        |r| r.sampling.top_p = Some(0.5),
        |r| r.tool_choice = Some(ToolChoice::None),
        |r| r.response_format = Some(ResponseFormat::JsonObject),
        |r| {
            let schema_json = "{\"type\":\"object\"}".to_owned();
            r.response_format =
                Some(ResponseFormat::JsonSchema { name: String::new(), schema_json, strict: None });
        },
        |r| {
            let name = "t".to_owned();
            r.tools = vec![Tool {
                name,
                description: String::new(),
                parameters_json: String::new(),
                strict: None,
                extra_json: String::new(),
            }];
        },
    ];
    let mut keys = vec![key(plain.clone())];
    for change in changes {
        let mut changed = plain.clone();
        change(&mut changed);
        keys.push(key(changed));
    }
    keys.push(canonical(&Request::Generate(plain), "b", &without_spaces));
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all, "two requests that differ have one key");
}

#[test]
fn json_is_the_same_however_it_is_laid_out() {
    let with = |schema: &str| {
        let format =
            ResponseFormat::JsonSchema { name: String::new(), schema_json: schema.to_owned(), strict: None };
        key(Generate { response_format: Some(format), ..generate("hello") })
    };
    assert_eq!(with("{\"type\": \"object\"}"), with("{ \"type\":\"object\" }"));
    assert_ne!(with("{\"type\": \"object\"}"), with("{\"type\": \"array\"}"));
}

#[test]
fn methods_do_not_run_together() {
    let embed = |inputs: &[&str]| {
        let inputs = inputs.iter().map(|text| (*text).to_owned()).collect();
        canonical(
            &Request::Embed(Embed { envelope: envelope(), inputs, dimensions: None }),
            "",
            &without_spaces,
        )
    };
    assert_ne!(embed(&["ab"]), embed(&["a", "b"]));
    let translate = Request::Translate(Translate {
        envelope: envelope(),
        text: "ab".to_owned(),
        source_language: None,
        target_language: "de".to_owned(),
        stream: false,
    });
    assert_ne!(embed(&["ab"]), canonical(&translate, "", &without_spaces));
    assert_eq!((setting(&translate, "", &without_spaces), question(&translate)), (None, None));
}

#[test]
fn a_setting_is_all_but_the_last_question() {
    let of = |request: Generate| setting(&Request::Generate(request), "a", &without_spaces);
    assert_eq!(of(generate("one")), of(generate("two")));
    assert_ne!(of(generate("one")), setting(&Request::Generate(generate("one")), "b", &without_spaces));
    let with_system = |text: &str| Generate {
        messages: vec![said(Role::System, text), said(Role::User, "x")],
        ..generate("")
    };
    assert_ne!(of(with_system("be brief")), of(with_system("be long")));
    let only_system = Generate { messages: vec![said(Role::System, "x")], ..generate("") };
    assert_eq!(of(only_system), None);
}

#[test]
fn a_request_that_asks_for_chance_is_not_kept_unless_the_owner_says_so() {
    let hot = |temperature| {
        let sampling = Sampling { temperature, ..Sampling::default() };
        Request::Generate(Generate { sampling, ..generate("x") })
    };
    let policy = Policy::default();
    assert_eq!([None, Some(0.0), Some(0.7)].map(|t| policy.takes(&hot(t))), [true, true, false]);
    assert!(Policy { sampled: true, ..policy }.takes(&hot(Some(0.7))));
    // S1, "Response Caching": cache_ttl: 3600
    assert_eq!(Policy::default().ttl, Duration::from_secs(3_600));
}

#[test]
fn questions_in_other_words_that_carry_no_meaning_are_alike() {
    let alike = [
        ["What is the capital of France?", "Please tell me the capital of France."],
        ["What is the capital of France?", "Could you say what France's capital is?"],
        ["How do I sort a list in Python?", "how to sort lists in Python"],
        ["Was ist die Hauptstadt von Frankreich?", "Nenne mir bitte die Hauptstadt von Frankreich"],
    ];
    for [one, other] in alike {
        assert_eq!(landmarks(one, Words::Same), landmarks(other, Words::Same), "{one} / {other}");
    }
}

#[test]
fn questions_that_only_look_alike_are_told_apart() {
    let apart = [
        ["What is the capital of France?", "What is the capital of Spain?"],
        ["what is the capital of france", "what is the capital of spain"],
        ["What is 2 plus 3?", "What is 2 plus 4?"],
        ["What is 2 minus 3?", "What is 3 minus 2?"],
        ["Is it safe to eat raw eggs?", "Is it not safe to eat raw eggs?"],
        ["Is it safe?", "Isn't it safe?"],
        ["Should I enable the firewall?", "Should I disable the firewall?"],
        ["Who wrote Hamlet?", "When was Hamlet written?"],
        ["Flights from Berlin to Paris", "Flights from Paris to Berlin"],
        ["Sort a list in Python", "Sort a list in Java"],
        ["Python lists?", "Java lists?"],
        ["delete the files", "delete the old files"],
        ["add one", "add two"],
        ["What does `a+b` do?", "What does `a-b` do?"],
        ["Translate \"good\"", "Translate \"bad\""],
    ];
    for [one, other] in apart {
        assert_ne!(landmarks(one, Words::Same), landmarks(other, Words::Same), "{one} / {other}");
    }
    // with free words names, numbers and negations still count, and lower-case names do not any more
    let free = |text| landmarks(text, Words::Free);
    assert_ne!(free("the capital of France"), free("the capital of Spain"));
    assert_ne!(free("is it safe"), free("is it not safe"));
    assert_eq!(free("a quick way to fix it"), free("a fast way to repair it"));
    assert_eq!(
        free("the capital of france"),
        free("the capital of spain"),
        "the danger that docs/cache.md names"
    );
}
