//! The dialects beside OpenAI's, with the bodies of the fact sheets.

use super::*;

fn told(dialect: &str, content_type: &str, text: &str) -> Result<Value, String> {
    decode(Some(content_type), text.as_bytes(), &object([("dialect", dialect.into())]))
}

fn whole(dialect: &str, body: &str) -> Value {
    told(dialect, "application/json", body).unwrap()
}

fn stream(dialect: &str, events: &[&str]) -> Result<Value, String> {
    let mut text = String::from(": a comment keeps the line open\n\n");
    for event in events {
        sse::write(json(event).get("type").and_then(Value::as_str), event, &mut text);
    }
    told(dialect, "text/event-stream", &text)
}

fn used(answer: &Value, key: &str) -> i128 {
    count(answer.get("usage").unwrap().get(key))
}

const CONVERSATION: &str = r#"[{"role":"system","content":"Be exact."},{"role":"user","content":[{"text":"Look"},{"image":{"data":"AAAA","media_type":"image/jpeg"}}]},
    {"role":"assistant","content":"Let me look.","tool_calls":[{"id":"c1","name":"get_quote","arguments":{"symbol":"ACME"}},{"id":"c2","name":"get_quote","arguments":{"symbol":"B"}}]},
    {"role":"tool","tool_call_id":"c1","content":"101.25"},{"role":"tool","tool_call_id":"c2","content":{"price":"7"}},{"role":"user","content":"And?"}]"#;

fn conversation(dialect: &str, more: &str) -> Value {
    asked(&format!(
        r#"{{"dialect":"{dialect}","model":"m","system":"Be short.","max_tokens":400,"temperature":0.4,"stop":"END","schema":{{"type":"object","properties":{{"a":{{"type":"object"}}}}}},
        "tools":{TOOLS},"messages":{CONVERSATION}{more}}}"#
    ))
}

#[test]
fn a_question_is_written_for_anthropic() {
    let wire = conversation(
        "anthropic",
        r#","tool_choice":{"name":"get_quote"},"effort":"minimal","extra":{"metadata":{"user_id":"u"},"output_config":{"more":1}}"#,
    );
    let expected = json(
        r#"{"model":"m","max_tokens":400,"system":"Be short.\n\nBe exact.","messages":[
        {"role":"user","content":[{"type":"text","text":"Look"},{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"AAAA"}}]},
        {"role":"assistant","content":[{"type":"text","text":"Let me look."},{"type":"tool_use","id":"c1","name":"get_quote","input":{"symbol":"ACME"}},{"type":"tool_use","id":"c2","name":"get_quote","input":{"symbol":"B"}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"101.25"},{"type":"tool_result","tool_use_id":"c2","content":"{\"price\":\"7\"}"},{"type":"text","text":"And?"}]}],
        "stop_sequences":["END"],"temperature":0.4,
        "tools":[{"name":"get_quote","strict":true,"input_schema":{"type":"object","additionalProperties":false}}],"tool_choice":{"type":"tool","name":"get_quote"},
        "output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"object","properties":{"a":{"type":"object","additionalProperties":false}},"additionalProperties":false}},"more":1},
        "metadata":{"user_id":"u"}}"#,
    );
    assert_eq!(wire, expected);
    let quiet = asked(
        r#"{"dialect":"anthropic","model":"m","max_tokens":4,"sampling":false,"temperature":1,"effort":"none","tool_choice":"required","tools":[{"name":"f"}],"messages":[{"role":"user","content":[{"image":{"url":"https://e.com/a.png"}}]}]}"#,
    );
    let expected = json(
        r#"{"model":"m","max_tokens":4,"thinking":{"type":"disabled"},"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"},
        "messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://e.com/a.png"}}]}]}"#,
    );
    assert_eq!(quiet, expected);
}

#[test]
fn an_answer_of_anthropic_is_read() {
    let answer = whole(
        "anthropic",
        r#"{"id":"msg_01Hx7","type":"message","role":"assistant","model":"claude-sonnet-5-5",
        "content":[{"type":"text","text":"Release 2.4 imports twice as fast."}],"stop_reason":"end_turn","stop_sequence":null,"stop_details":null,
        "usage":{"input_tokens":14,"cache_creation_input_tokens":1210,"cache_read_input_tokens":7,
        "cache_creation":{"ephemeral_5m_input_tokens":1200,"ephemeral_1h_input_tokens":10},
        "output_tokens":11,"output_tokens_details":{"thinking_tokens":3},"service_tier":"standard","inference_geo":"global"}}"#,
    );
    assert_eq!(text(&answer, "text"), Some("Release 2.4 imports twice as fast."));
    assert_eq!(text(&answer, "stop"), Some("end"));
    // It counts apart what others count together.
    let counts = ["input", "cached", "cache_write", "cache_write_1h", "output", "reasoning", "total"];
    assert_eq!(counts.map(|key| used(&answer, key)), [1231, 7, 1210, 10, 11, 3, 1242]);
    for (reason, expected) in [
        ("end_turn", "end"),
        ("stop_sequence", "end"),
        ("max_tokens", "length"),
        ("tool_use", "tool_use"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "length"),
        ("news", "other"),
    ] {
        let answer = whole("anthropic", &format!(r#"{{"type":"message","content":[],"stop_reason":"{reason}"}}"#));
        assert_eq!((text(&answer, "stop"), text(&answer, "stop_reason")), (Some(expected), Some(reason)));
        assert_eq!(answer.get("usage"), Some(&Value::Null));
    }
    let refused = r#"{"type":"message","content":[],"stop_reason":"refusal","stop_details":{"type":"refusal","category":"cyber","explanation":null}}"#;
    assert_eq!(text(&whole("anthropic", refused), "refusal"), Some("cyber"));
}

#[test]
fn thoughts_go_back_to_anthropic_with_their_signatures_and_to_nobody_else() {
    let content = r#"[{"type":"thinking","thinking":"Hm.","signature":"EqQB"},{"type":"redacted_thinking","data":"x"},{"type":"text","text":"Let me look."},
        {"type":"tool_use","id":"toolu_01Ab","name":"get_quote","input":{"symbol":"ACME"},"caller":{"type":"direct"}}]"#;
    let answer = whole(
        "anthropic",
        &format!(r#"{{"type":"message","role":"assistant","content":{content},"stop_reason":"tool_use"}}"#),
    );
    assert_eq!(text(&answer, "thinking"), Some("Hm."));
    assert_eq!(
        list(&answer, "tool_calls"),
        list(&json(r#"{"a":[{"id":"toolu_01Ab","name":"get_quote","arguments":{"symbol":"ACME"}}]}"#), "a")
    );
    let next = |dialect: &str| {
        let said = object([("role", "user".into()), ("content", "Is ACME above 100?".into())]);
        let result = json(r#"{"role":"tool","tool_call_id":"toolu_01Ab","content":"{\"price\":\"101.25\"}"}"#);
        let question = object([
            ("dialect", dialect.into()),
            ("max_tokens", Value::Int(9)),
            ("messages", Value::list(vec![said, answer.get("message").unwrap().clone(), result])),
        ]);
        let payload = encode(&question).unwrap();
        json(std::str::from_utf8(&payload.bytes).unwrap())
    };
    let own = next("anthropic");
    assert_eq!(list(&own, "messages")[1].get("content"), Some(&json(content)));
    for other in ["cohere", "ollama", "openai", "openai_responses"] {
        let wire = next(other).to_string();
        assert!(wire.contains("get_quote") && !wire.contains("EqQB") && !wire.contains("Hm."), "{other}: {wire}");
    }
}

const STARTED: &str = r#"{"type":"message_start","message":{"id":"msg_01Hx7","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":14,"cache_creation_input_tokens":0,"cache_read_input_tokens":5,"output_tokens":1}}}"#;

#[test]
fn a_stream_of_anthropic_is_folded() {
    let events = [
        STARTED,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Rel"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"ease"}}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_01Ab","name":"get_quote","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"symbol\":"}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":" \"ACME\"}"}}"#,
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_02","name":"now","input":{}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":31}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let answer = stream("anthropic", &events).unwrap();
    assert_eq!((text(&answer, "text"), text(&answer, "thinking")), (Some("Release"), Some("Hm.")));
    let arguments: Vec<_> =
        list(&answer, "tool_calls").iter().map(|call| call.get("arguments").unwrap().to_string()).collect();
    assert_eq!(arguments, [r#"{"symbol":"ACME"}"#, "{}"]);
    assert_eq!(["input", "cached", "output"].map(|key| used(&answer, key)), [19, 5, 31]);
    let signature = text(&list(answer.get("message").unwrap(), "raw")[0], "signature").unwrap();
    assert_eq!(signature, "EqQB");
    // Without a word of its dialect the stream tells it.
    let mut plain = String::new();
    events.iter().for_each(|event| sse::write(Some("x"), event, &mut plain));
    assert_eq!(streamed(&plain).unwrap(), answer);
    // Broken off, and failed in its middle.
    assert!(stream("anthropic", &events[..events.len() - 1]).unwrap_err().contains("broke off"));
    let failed = stream(
        "anthropic",
        &[STARTED, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#],
    );
    assert_eq!(text(failed.unwrap().get("error").unwrap(), "type"), Some("overloaded_error"));
    // A call that was cut says so, and goes back as one that is whole.
    let mut cut: Vec<&str> = events[..11].to_vec();
    cut.push(r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":31}}"#);
    cut.push(r#"{"type":"message_stop"}"#);
    let cut = stream("anthropic", &cut).unwrap();
    assert!(text(&list(&cut, "tool_calls")[0], "error").unwrap().starts_with("the arguments are no JSON"));
    assert_eq!(list(cut.get("message").unwrap(), "raw")[2].get("input"), Some(&json("{}")));
}

#[test]
fn a_question_is_written_for_cohere() {
    let wire = conversation("cohere", r#","tool_choice":{"name":"get_quote"},"effort":"none","top_p":0.5,"seed":7"#);
    let expected = json(
        r#"{"model":"m","max_tokens":400,"seed":7,"stream":false,"messages":[{"role":"system","content":"Be short."},{"role":"system","content":"Be exact."},
        {"role":"user","content":[{"type":"text","text":"Look"},{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,AAAA"}}]},
        {"role":"assistant","content":"Let me look.","tool_calls":[{"id":"c1","type":"function","function":{"name":"get_quote","arguments":"{\"symbol\":\"ACME\"}"}},{"id":"c2","type":"function","function":{"name":"get_quote","arguments":"{\"symbol\":\"B\"}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"101.25"},{"role":"tool","tool_call_id":"c2","content":"{\"price\":\"7\"}"},{"role":"user","content":"And?"}],
        "temperature":0.4,"p":0.5,"stop_sequences":["END"],"tools":[{"type":"function","function":{"name":"get_quote","parameters":{"type":"object"}}}],"strict_tools":true,"tool_choice":"REQUIRED",
        "thinking":{"type":"disabled"},"response_format":{"type":"json_object","json_schema":{"type":"object","properties":{"a":{"type":"object"}}}}}"#,
    );
    assert_eq!(wire, expected);
}

#[test]
fn an_answer_of_cohere_is_read_by_what_it_bills() {
    let answer = whole(
        "cohere",
        r#"{"id":"5f3a2c0e","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"thinking","thinking":"Hm."},{"type":"text","text":"Release 2.4"}]},
        "usage":{"billed_units":{"input_tokens":19.0,"output_tokens":9.0},"tokens":{"input_tokens":516.0,"output_tokens":11},"cached_tokens":0}}"#,
    );
    assert_eq!(["input", "output", "total"].map(|key| used(&answer, key)), [19, 9, 28]);
    assert_eq!(
        (text(&answer, "text"), text(&answer, "thinking"), text(&answer, "stop")),
        (Some("Release 2.4"), Some("Hm."), Some("end"))
    );
    let message = r#"{"role":"assistant","tool_plan":"I will look up the price.","tool_calls":[{"id":"get_quote_k2x9","type":"function","function":{"name":"get_quote","arguments":"{\"symbol\":\"ACME\"}"}}]}"#;
    let calling = whole("cohere", &format!(r#"{{"id":"a","finish_reason":"TOOL_CALL","message":{message}}}"#));
    assert_eq!((text(&calling, "stop"), calling.get("text")), (Some("tool_use"), Some(&Value::Null)));
    assert_eq!(calling.get("message").unwrap().get("raw"), Some(&json(message)));
    let error =
        |body: &str| whole("cohere", body).get("error").and_then(|error| text(error, "message")).map(str::to_owned);
    assert_eq!(error(r#"{"id":"a","finish_reason":"ERROR","message":{}}"#).unwrap(), "the model failed");
    assert_eq!(error(r#"{"id":"a","finish_reason":"TIMEOUT","message":{}}"#).unwrap(), "the model ran out of time");
    assert_eq!(error(r#"{"id":"a","finish_reason":"MAX_TOKENS","message":{}}"#), None);
    assert_eq!(
        text(&whole("cohere", r#"{"id":"8e2","message":"invalid api token"}"#), "message"),
        Some("invalid api token")
    );
}

#[test]
fn a_stream_of_cohere_is_folded() {
    let start = r#"{"type":"message-start","id":"5f3a","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#;
    let end = r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":19,"output_tokens":9},"tokens":{"input_tokens":516,"output_tokens":11}}}}"#;
    let events = [
        start,
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Rel"}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"ease"}}}}"#,
        r#"{"type":"content-end","index":0}"#,
        end,
    ];
    let answer = stream("cohere", &events).unwrap();
    assert_eq!(
        (text(&answer, "id"), text(&answer, "text"), used(&answer, "input")),
        (Some("5f3a"), Some("Release"), 19)
    );
    assert!(stream("cohere", &events[..5]).unwrap_err().contains("broke off"));
    let calling = [
        start,
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I look."}}}"#,
        r#"{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"g1","type":"function","function":{"name":"get_quote","arguments":""}}}}}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"symbol\":"}}}}}"#,
        r#"{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function":{"arguments":"\"ACME\"}"}}}}}"#,
        r#"{"type":"tool-call-end","index":0}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL"}}"#,
    ];
    let calling = stream("cohere", &calling).unwrap();
    assert_eq!(list(&calling, "tool_calls")[0].get("arguments"), Some(&json(r#"{"symbol":"ACME"}"#)));
    assert_eq!(text(&calling, "thinking"), Some("I look."));
    let failed = [start, r#"{"type":"message-end","delta":{"finish_reason":"ERROR","error":"it broke"}}"#];
    let failed = stream("cohere", &failed).unwrap();
    assert_eq!(text(failed.get("error").unwrap(), "message"), Some("it broke"));
}

#[test]
fn a_question_is_written_for_ollama() {
    let wire = conversation(
        "ollama",
        r#","effort":"xhigh","context":8192,"keep_alive":"10m","extra":{"options":{"min_p":0.1}}"#,
    );
    let expected = json(
        r#"{"model":"m","keep_alive":"10m","stream":false,"messages":[{"role":"system","content":"Be short."},{"role":"system","content":"Be exact."},{"role":"user","content":"Look","images":["AAAA"]},
        {"role":"assistant","content":"Let me look.","tool_calls":[{"id":"c1","function":{"index":0,"name":"get_quote","arguments":{"symbol":"ACME"}}},{"id":"c2","function":{"index":1,"name":"get_quote","arguments":{"symbol":"B"}}}]},
        {"role":"tool","content":"101.25","tool_call_id":"c1","tool_name":"get_quote"},{"role":"tool","content":"{\"price\":\"7\"}","tool_call_id":"c2","tool_name":"get_quote"},{"role":"user","content":"And?"}],
        "options":{"num_predict":400,"num_ctx":8192,"temperature":0.4,"stop":["END"],"min_p":0.1},
        "tools":[{"type":"function","function":{"name":"get_quote","parameters":{"type":"object"}}}],"think":"high","format":{"type":"object","properties":{"a":{"type":"object"}}}}"#,
    );
    assert_eq!(wire, expected);
}

#[test]
fn answers_of_ollama_are_read_whole_and_in_lines() {
    let answer = whole(
        "ollama",
        r#"{"model":"llama3.2","created_at":"2026-11-20T09:00:02.123456789Z","message":{"role":"assistant","content":"Release 2.4 imports twice as fast."},
        "done":true,"done_reason":"stop","total_duration":912000000,"load_duration":41000000,"prompt_eval_count":31,"prompt_eval_duration":120000000,"eval_count":10,"eval_duration":700000000}"#,
    );
    assert_eq!((text(&answer, "stop"), used(&answer, "input"), used(&answer, "output")), (Some("end"), 31, 10));
    let calling = whole(
        "ollama",
        r#"{"model":"m","created_at":"2026-11-20T09:00:02.1Z","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"get_quote","arguments":{"symbol":"ACME"}}}]},"done":true,"done_reason":"stop"}"#,
    );
    assert_eq!((text(&calling, "stop"), calling.get("usage")), (Some("tool_use"), Some(&Value::Null)));
    // A call without an id gets one, in what goes back as well.
    let id = text(&list(&calling, "tool_calls")[0], "id").unwrap();
    assert_eq!(id, "call_20261120T0900021Z_0");
    assert_eq!(text(&list(calling.get("message").unwrap().get("raw").unwrap(), "tool_calls")[0], "id"), Some(id));

    let first = r#"{"model":"llama3.2","created_at":"…","message":{"role":"assistant","content":"","thinking":"Hm."},"done":false}
{"model":"llama3.2","created_at":"…","message":{"role":"assistant","content":"Rel"},"done":false}
"#;
    let last = r#"{"model":"llama3.2","created_at":"…","message":{"role":"assistant","content":"ease"},"done":true,"done_reason":"length","prompt_eval_count":31,"eval_count":10,"total_duration":912000000}"#;
    let lines = |text: &str| told("ollama", "application/x-ndjson", text);
    let answer = lines(&format!("{first}{last}\n")).unwrap();
    assert_eq!(
        (text(&answer, "text"), text(&answer, "thinking"), text(&answer, "stop")),
        (Some("Release"), Some("Hm."), Some("length"))
    );
    // A last line needs no end, and one that was cut is none.
    assert_eq!(lines(&format!("{first}{last}")).unwrap(), answer);
    for broken in [first.to_owned(), format!("{first}{}", last.get(..40).unwrap())] {
        assert!(lines(&broken).unwrap_err().contains("broke off"), "{broken}");
    }
    assert!(lines(&format!("{{\n{first}{last}\n")).unwrap_err().contains("line 1 of the stream is no JSON"));
    let failed = lines(&format!("{first}{{\"error\":\"out of memory\"}}\n")).unwrap();
    assert_eq!(text(&failed, "error"), Some("out of memory"));
}

#[test]
fn what_a_dialect_cannot_say_is_said() {
    for (question, expected) in [
        (r#"{"dialect":"anthropic","messages":[{"role":"user","content":"x"}]}"#, "needs `max_tokens`"),
        (
            r#"{"dialect":"anthropic","max_tokens":1,"messages":[{"role":"judge","content":"x"}]}"#,
            "knows no role `judge`",
        ),
        (
            r#"{"dialect":"anthropic","max_tokens":1,"messages":[{"role":"tool","content":"x"}]}"#,
            "needs its `tool_call_id`",
        ),
        (
            r#"{"dialect":"cohere","tools":[{"name":"get-quote"}],"messages":[{"role":"user","content":"x"}]}"#,
            "no tool named `get-quote`",
        ),
        (
            r#"{"dialect":"cohere","tools":[{"name":"a"}],"tool_choice":{"name":"b"},"messages":[{"role":"user","content":"x"}]}"#,
            "not among the tools",
        ),
        (
            r#"{"dialect":"ollama","tools":[{"name":"a"}],"tool_choice":"required","messages":[{"role":"user","content":"x"}]}"#,
            "cannot have a tool called",
        ),
        (
            r#"{"dialect":"ollama","messages":[{"role":"user","content":[{"image":{"url":"https://e.com/a.png"}}]}]}"#,
            "not from an address",
        ),
    ] {
        let error = encode(&json(question)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn servers_that_copy_the_shape_loosely_are_understood() {
    let options =
        json(r#"{"dialect":"openai","estimates":true,"asked":{"messages":[{"role":"user","content":"abcdef"}]}}"#);
    let loose = |body: &str| decode(Some("application/json"), body.as_bytes(), &options).unwrap();
    let answer = loose(
        r#"{"id":"chatcmpl-31","choices":[{"index":0,"message":{"role":"assistant","content":"","reasoning_content":"Hm.",
        "tool_calls":[{"id":"","function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"g","arguments":""}}]},"finish_reason":"stop"}]}"#,
    );
    assert_eq!(
        (text(&answer, "stop"), text(&answer, "thinking"), answer.get("text")),
        (Some("tool_use"), Some("Hm."), Some(&Value::Null))
    );
    let ids: Vec<_> = list(&answer, "tool_calls").iter().map(|call| text(call, "id").unwrap()).collect();
    assert_eq!(ids, ["call_chatcmpl31_0", "call_chatcmpl31_1"]);
    assert_eq!(list(&answer, "tool_calls")[0].get("arguments"), Some(&json(r#"{"a":1}"#)));
    let raw = answer.get("message").unwrap().get("raw").unwrap();
    assert_eq!(text(&list(raw, "tool_calls")[1], "id"), Some("call_chatcmpl31_1"));
    // Nobody has counted: it is estimated, and says so.
    let usage = answer.get("usage").unwrap();
    assert_eq!(usage.get("estimated"), Some(&Value::Bool(true)));
    assert!(used(&answer, "input") > 2 && used(&answer, "output") > 0, "{usage}");
    let counted = loose(
        r#"{"choices":[{"message":{"content":"x","reasoning":"Ah."},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
    );
    assert_eq!((counted.get("usage").unwrap().get("estimated"), text(&counted, "thinking")), (None, Some("Ah.")));
    let refused = loose(r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#);
    assert_eq!(refused.get("error").unwrap().get("code"), Some(&Value::Int(503)));
    let parts = loose(
        r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},"finish_reason":"stop"}]}"#,
    );
    assert_eq!(text(&parts, "text"), Some("a\nb"));
    // A stream with comments, thoughts, calls in one piece and without a number.
    let mut stream = String::from(": ping\n\n");
    for chunk in [
        r#"{"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","reasoning_content":"Hm"},"finish_reason":null}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"."},"finish_reason":null}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]},"finish_reason":null}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"g","arguments":"{\"b\""}}]},"finish_reason":null}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":":2}"}}]},"finish_reason":null}]}"#,
        r#"{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    ] {
        sse::write(None, chunk, &mut stream);
        stream.push_str(": ping\n\n");
    }
    let streamed = decode(Some("text/event-stream"), stream.as_bytes(), &options).unwrap();
    assert_eq!(text(&streamed, "thinking"), Some("Hm."));
    let arguments: Vec<_> =
        list(&streamed, "tool_calls").iter().map(|call| call.get("arguments").unwrap().to_string()).collect();
    assert_eq!(arguments, [r#"{"a":1}"#, r#"{"b":2}"#]);
}
