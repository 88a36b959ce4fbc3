//! Tools, reasoning and likelihoods: the bundled model under the chat templates of other families.

use serde_json::Value;

use super::*;

const USER: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}\
                    {% set f = c.function %}CALL{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}{{ '<|im_start|>assistant\\n' }}";
const TOOLS: &str = "{% if tools %}{{ '<|im_start|>system\\n' }}{% for t in tools %}{{ t | tojson }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}";
/// How families write a call, and the form that this is.
const FORMS: [(&str, Syntax); 4] = [
    (
        "<tool_call>\n{\"name\": \"{{ f.name }}\", \"arguments\": {{ f.arguments | tojson }}}\n</tool_call>",
        Syntax::Hermes,
    ),
    ("[TOOL_CALLS][{{ f | tojson }}]", Syntax::Mistral),
    ("[TOOL_CALLS]{{ f.name }}[ARGS]{{ f.arguments | tojson }}", Syntax::MistralNamed),
    ("{\"name\": \"{{ f.name }}\", \"parameters\": {{ f.arguments | tojson }}}", Syntax::Llama),
];

/// The bundled model under another template. The folder holds its file.
async fn under(template: &str, context: u32) -> (Engine, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let own = std::fs::read(spec().path).unwrap();
    std::fs::write(&path, e2e::gguf::with_template(&own, template).unwrap()).unwrap();
    let spec = Spec { path, slots: 2, context_per_slot: context, ..spec() };
    (Engine::start(spec).await.unwrap(), folder)
}

async fn with_calls(call: &str) -> (Engine, tempfile::TempDir) {
    under(&format!("{TOOLS}{}", USER.replace("CALL", call)), 512).await
}

fn offered() -> Vec<Tool> {
    let tool = |name: &str, schema: &str| Tool {
        name: name.to_owned(),
        description: String::new(),
        parameters_json: schema.to_owned(),
    };
    let add = r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/n"},"b":{"$ref":"#/$defs/n"}},"required":["a","b"],
        "additionalProperties":false,"$defs":{"n":{"type":"integer","minimum":0,"maximum":99}}}"##;
    vec![tool("add", add), tool("now", "")]
}

fn with_tools(choice: ToolChoice, parallel: bool) -> Generate {
    Generate {
        tools: Tools { offered: offered(), choice, parallel },
        max_tokens: Some(160),
        ..ask("What is 2+2?")
    }
}

#[tokio::test]
async fn a_tool_that_must_be_called_is_called_in_the_form_of_the_family() {
    for (call, syntax) in FORMS {
        let (engine, _folder) = with_calls(call).await;
        assert_eq!(engine.facts().abilities.calls, Some(syntax));
        let (piece, finished) = whole(&engine, with_tools(ToolChoice::Named("add".to_owned()), false)).await;
        assert_eq!(finished.finish, Finish::ToolCalls, "{syntax:?}: {piece:?}");
        assert_eq!((piece.calls.len(), piece.text.as_str()), (1, ""), "{syntax:?}: {piece:?}");
        assert_eq!(piece.calls[0].name, "add");
        let arguments: Value = serde_json::from_str(&piece.calls[0].arguments_json).unwrap();
        assert!((0..=99).contains(&arguments["a"].as_i64().unwrap()), "{arguments}");
        assert!((0..=99).contains(&arguments["b"].as_i64().unwrap()), "{arguments}");
    }
}

#[tokio::test]
async fn any_of_the_tools_will_do_where_one_is_required() {
    let (engine, _folder) = with_calls(FORMS[0].0).await;
    let (piece, finished) = whole(&engine, with_tools(ToolChoice::Required, true)).await;
    // Several calls at once may reach the bound on the answer, one is certain.
    assert!(matches!(finished.finish, Finish::ToolCalls | Finish::Length), "{finished:?}");
    assert!(piece.calls.iter().all(|call| ["add", "now"].contains(&call.name.as_str())), "{piece:?}");
    assert!(!piece.calls.is_empty(), "{piece:?}");
}

#[tokio::test]
async fn a_conversation_with_calls_and_their_answers_goes_on() {
    let (engine, _folder) = with_calls(FORMS[0].0).await;
    let mut request = with_tools(ToolChoice::Auto, true);
    let call = ToolCall {
        id: "call_1".to_owned(),
        name: "add".to_owned(),
        arguments_json: "{\"a\":2,\"b\":2}".to_owned(),
    };
    request.messages.push(Message { calls: vec![call], ..Message::text("assistant", "") });
    request.messages.push(Message { call_id: "call_1".to_owned(), ..Message::text("tool", "4") });
    let (_, finished) = whole(&engine, request).await;
    assert!(finished.usage.output > Tokens::ZERO && finished.finish != Finish::Cancelled, "{finished:?}");
}

#[tokio::test]
async fn a_model_whose_template_knows_no_tools_refuses_them_by_name() {
    let engine = demo(1).await;
    assert_eq!(engine.facts().abilities, Abilities::default());
    let fault = refusal(&engine, with_tools(ToolChoice::Auto, true)).await;
    assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "tools"));
    let mut request = ask("Hi");
    request.messages.push(Message { call_id: "c".to_owned(), ..Message::text("tool", "4") });
    assert_eq!(refusal(&engine, request).await.field, "messages[1].role");
}

#[tokio::test]
async fn a_schema_of_a_tool_that_cannot_be_enforced_is_refused_by_name() {
    let (engine, _folder) = with_calls(FORMS[0].0).await;
    let mut request = with_tools(ToolChoice::Required, true);
    request.tools.offered[0].parameters_json = r#"{"type":"nonsense"}"#.to_owned();
    let fault = refusal(&engine, request).await;
    assert_eq!((fault.code, fault.field.as_str()), (Code::Unsupported, "tools[add].parameters_json"));
}

#[tokio::test]
async fn reasoning_that_the_prompt_has_begun_is_kept_apart_and_counted() {
    let thinking = format!("{}{{{{ '<think>\\n' }}}}{{# </think> #}}", USER.replace("CALL", ""));
    let (engine, _folder) = under(&thinking, 512).await;
    assert!(engine.facts().abilities.thinks);
    let (piece, finished) = whole(&engine, ask("What is 2+2?")).await;
    assert!(piece.text.is_empty() && !piece.reasoning.is_empty(), "{piece:?}");
    assert!(finished.usage.reasoning > Tokens::ZERO, "{finished:?}");
    // A form is for the answer, which comes after the reasoning.
    let format = Format::JsonSchema(r#"{"enum":["yes"]}"#.to_owned());
    let sampling =
        Sampling { temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(5), ..Sampling::default() };
    let (piece, _) =
        whole(&engine, Generate { format, sampling, max_tokens: None, ..ask("What is 2+2?") }).await;
    assert!(piece.text.is_empty() || piece.text == "\"yes\"", "{piece:?}");
    assert!(!piece.reasoning.is_empty(), "{piece:?}");
}

#[tokio::test]
async fn likelihoods_belong_to_the_tokens_of_the_text() {
    let engine = demo(1).await;
    let (piece, finished) = whole(&engine, Generate { logprobs: Some(3), ..ask("What is 2+2?") }).await;
    assert_eq!(finished.finish, Finish::Stop);
    let bytes: Vec<u8> = piece.logprobs.iter().flat_map(|token| token.token.bytes.clone()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), piece.text);
    // The token that ends the answer has no text.
    assert_eq!(piece.logprobs.len() as u64 + 1, finished.usage.output.get());
    for token in &piece.logprobs {
        assert_eq!(token.top.len(), 3);
        assert_eq!(token.top[0], token.token, "greedy takes the likeliest");
        assert!(
            token.top.is_sorted_by(|one, other| one.logprob >= other.logprob) && token.token.logprob <= 0.0
        );
    }
    let (piece, _) = whole(&engine, ask("What is 2+2?")).await;
    assert_eq!(piece.logprobs, []);
}

#[tokio::test]
async fn a_bias_forces_and_forbids_tokens() {
    let engine = demo(1).await;
    let four = engine.model.llama.vocab().tokenize(b"4", false, false);
    let [four] = four[..] else { panic!("{four:?}") };
    let number = u32::try_from(four.0).unwrap();
    let biased = |bias| Generate {
        sampling: Sampling { logit_bias: vec![(number, bias)], ..greedy() },
        max_tokens: Some(5),
        ..ask("What is 2+2?")
    };
    assert_eq!(answer(&engine, biased(100.0)).await.0, "44444");
    let (plain, _) = answer(&engine, ask("What is 2+2?")).await;
    assert!(plain.contains('4') && !answer(&engine, biased(-100.0)).await.0.contains('4'));
    let unknown = Sampling { logit_bias: vec![(999_999, 1.0)], ..greedy() };
    assert_eq!(refusal(&engine, Generate { sampling: unknown, ..ask("Hi") }).await.field, "logit_bias");
}

#[tokio::test]
async fn only_tokens_as_likely_as_the_likeliest_are_greedy() {
    let engine = demo(1).await;
    let question = "Tell me a short story about a cat";
    let hot = Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 1.0, ..Sampling::default() };
    let (greedy_text, _) = answer(&engine, ask(question)).await;
    assert_eq!(answer(&engine, Generate { sampling: hot, ..ask(question) }).await.0, greedy_text);
    let varied = Sampling { repeat_penalty: 1.8, ..greedy() };
    assert_ne!(answer(&engine, Generate { sampling: varied, ..ask(question) }).await.0, greedy_text);
}

#[tokio::test]
async fn a_seed_draws_the_same_answer_alone_and_among_others() {
    let engine = demo(8).await;
    let story = |seed| Generate {
        sampling: Sampling { temperature: 1.2, seed: Some(seed), ..Sampling::default() },
        ..ask("Tell me a short story about a dog")
    };
    let (alone, _) = answer(&engine, story(42)).await;
    let mut together = vec![story(42)];
    together.extend((1..8).map(story));
    let together = join_all(together.into_iter().map(|request| answer(&engine, request))).await;
    assert_eq!(together[0].0, alone);
}
