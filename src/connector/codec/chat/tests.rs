mod dialects;

use super::*;

fn json(text: &str) -> Value {
    parse_json(text).unwrap()
}

fn asked(question: &str) -> Value {
    let payload = encode(&json(question)).unwrap();
    json(std::str::from_utf8(&payload.bytes).unwrap())
}

fn answered(body: &str) -> Value {
    decode(Some("application/json"), body.as_bytes(), &Value::Null).unwrap()
}

const TOOLS: &str = r#"[{"name":"get_quote","strict":true,"parameters":{"type":"object"}}]"#;

#[test]
fn a_question_is_written_for_completions() {
    let wire = asked(&format!(
        r#"{{"dialect":"openai","model":"m","system":"Be short.","max_tokens":400,"temperature":0.4,"effort":"none","stream":true,
        "schema":{{"type":"object"}},"schema_name":"rating","tools":{TOOLS},"tool_choice":{{"name":"get_quote"}},"extra":{{"store":false}},
        "messages":[{{"role":"user","content":[{{"text":"Look"}},{{"image":{{"data":"AAAA","media_type":"image/jpeg"}}}}]}},
          {{"role":"assistant","content":null,"tool_calls":[{{"id":"c1","name":"get_quote","arguments":{{"symbol":"ACME"}}}}]}},
          {{"role":"tool","tool_call_id":"c1","content":"101.25"}}]}}"#
    ));
    let expected = json(
        r#"{"model":"m","messages":[{"role":"system","content":"Be short."},
        {"role":"user","content":[{"type":"text","text":"Look"},{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,AAAA"}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"get_quote","arguments":"{\"symbol\":\"ACME\"}"}}]},
        {"role":"tool","content":"101.25","tool_call_id":"c1"}],
        "reasoning_effort":"none","stream":true,"max_completion_tokens":400,"temperature":0.4,"stream_options":{"include_usage":true},
        "tools":[{"type":"function","function":{"name":"get_quote","parameters":{"type":"object"},"strict":true}}],
        "tool_choice":{"type":"function","function":{"name":"get_quote"}},
        "response_format":{"type":"json_schema","json_schema":{"name":"rating","schema":{"type":"object"},"strict":true}},"store":false}"#,
    );
    assert_eq!(wire, expected);
    let quiet = asked(
        r#"{"dialect":"openai","sampling":false,"temperature":0.4,"max_tokens":4,"max_tokens_key":"max_tokens","messages":[{"role":"user","content":"x"}]}"#,
    );
    assert_eq!(quiet, json(r#"{"messages":[{"role":"user","content":"x"}],"max_tokens":4}"#));
    let within = asked(
        r#"{"dialect":"openai","schema_as":"json_object","schema":{"type":"object"},"messages":[{"role":"user","content":"x"}]}"#,
    );
    assert_eq!(
        within,
        json(
            r#"{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object","schema":{"type":"object"}}}"#
        )
    );
}

#[test]
fn a_question_is_written_for_responses() {
    let wire = asked(&format!(
        r#"{{"dialect":"openai_responses","model":"m","system":"Answer as JSON.","max_tokens":600,"effort":"low","schema":{{"type":"object"}},"schema_name":"rating","tools":{TOOLS},
        "messages":[{{"role":"user","content":"Rate this"}},{{"role":"assistant","raw":[{{"type":"reasoning","id":"rs_1","summary":[]}}]}},
          {{"role":"tool","tool_call_id":"call_77","content":"{{}}"}}]}}"#
    ));
    let expected = json(
        r#"{"model":"m","instructions":"Answer as JSON.","max_output_tokens":600,
        "input":[{"role":"user","content":[{"type":"input_text","text":"Rate this"}]},{"type":"reasoning","id":"rs_1","summary":[]},
          {"type":"function_call_output","call_id":"call_77","output":"{}"}],
        "store":false,"reasoning":{"effort":"low"},"include":["reasoning.encrypted_content"],
        "tools":[{"type":"function","name":"get_quote","parameters":{"type":"object"},"strict":true}],
        "text":{"format":{"type":"json_schema","name":"rating","schema":{"type":"object"},"strict":true}}}"#,
    );
    assert_eq!(wire, expected);
}

#[test]
fn what_a_question_lacks_is_said() {
    for (question, expected) in [
        (r#"{"messages":[]}"#, "`chat` needs a `dialect`"),
        (r#"{"dialect":"latin","messages":[]}"#, "there is no dialect `latin`"),
        (r#"{"dialect":"openai","messages":[]}"#, "a chat needs `messages`"),
        (r#"{"dialect":"openai","messages":[{"content":"x"}]}"#, "a message needs a `role`"),
        (r#"{"dialect":"openai","messages":[{"role":"user","content":[{"image":{}}]}]}"#, "an image has a `url`"),
        (r#"{"dialect":"openai_responses","stop":["x"],"messages":[{"role":"user","content":"x"}]}"#, "has no `stop`"),
    ] {
        let error = encode(&json(question)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn answers_of_both_dialects_mean_the_same() {
    let completion = answered(
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","content":null,"refusal":null,
        "tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_quote","arguments":"{\"symbol\":\"ACME\"}"}},{"id":"call_2","type":"function","function":{"name":"get_quote","arguments":"{\"sym"}}]}}],
        "usage":{"prompt_tokens":27,"completion_tokens":9,"total_tokens":36,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
    );
    let response = answered(
        r#"{"id":"resp_1","object":"response","status":"completed","error":null,"model":"m","output":[{"id":"rs_2","type":"reasoning","summary":[]},
        {"id":"fc_2","type":"function_call","call_id":"call_1","name":"get_quote","arguments":"{\"symbol\":\"ACME\"}"},
        {"id":"fc_3","type":"function_call","call_id":"call_2","name":"get_quote","arguments":"{\"sym"}],
        "usage":{"input_tokens":27,"input_tokens_details":{"cached_tokens":5},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":36}}"#,
    );
    for key in ["model", "text", "refusal", "stop", "tool_calls", "usage"] {
        assert_eq!(completion.get(key), response.get(key), "{key}");
    }
    assert_eq!(completion.get("stop"), Some(&"tool_use".into()));
    let calls = list(&completion, "tool_calls");
    assert_eq!(calls[0].get("arguments"), Some(&json(r#"{"symbol":"ACME"}"#)));
    assert_eq!(calls[1].get("arguments"), Some(&Value::Null));
    assert!(text(&calls[1], "error").unwrap().starts_with("the arguments are no JSON"));
    // The thoughts go back with the calls, and so do arguments that nobody could read.
    let back = response.get("message").unwrap();
    assert_eq!(list(back, "raw").len(), 3);
    assert_eq!(arguments(&calls[1]), "{\"sym".into());
}

#[test]
fn refusals_cuts_and_failures_are_told_apart() {
    let completion = |reason: &str, message: &str| {
        answered(&format!(
            r#"{{"object":"chat.completion","choices":[{{"finish_reason":"{reason}","message":{message}}}]}}"#
        ))
    };
    let stop = |answer: &Value| text(answer, "stop").unwrap().to_owned();
    assert_eq!(stop(&completion("stop", r#"{"content":null,"refusal":"No."}"#)), "refusal");
    assert_eq!(stop(&completion("length", r#"{"content":"{\"a"}"#)), "length");
    assert_eq!(stop(&completion("content_filter", r#"{"content":""}"#)), "filter");
    assert_eq!(stop(&completion("stop", r#"{"content":"ok"}"#)), "end");
    assert_eq!(completion("stop", r#"{"content":"ok"}"#).get("usage"), Some(&Value::Null));
    let failed = answered(
        r#"{"object":"response","status":"failed","error":{"code":"server_error","message":"x"},"output":[]}"#,
    );
    assert_eq!(
        (text(&failed, "status"), failed.get("error").and_then(|it| text(it, "code"))),
        (Some("failed"), Some("server_error"))
    );
    let refused = answered(r#"{"error":{"message":"no","type":"x","param":null,"code":"invalid_api_key"}}"#);
    assert_eq!(refused.get("error").and_then(|it| text(it, "code")), Some("invalid_api_key"));
}

fn streamed(text: &str) -> Result<Value, String> {
    decode(Some("text/event-stream"), text.as_bytes(), &Value::Null)
}

#[test]
fn a_stream_that_breaks_off_is_no_answer() {
    let chunk = r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Rel"},"finish_reason":null}]}"#;
    assert!(streamed(&format!("{chunk}\n\n")).unwrap_err().contains("broke off"));
    let failed = streamed(&format!("{chunk}\n\ndata: {{\"error\":{{\"message\":\"overloaded\"}}}}\n\n")).unwrap();
    assert_eq!(failed.get("error").and_then(|it| text(it, "message")), Some("overloaded"));
    let created = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n";
    assert!(streamed(created).unwrap_err().contains("broke off"));
    let error =
        format!("{created}event: error\ndata: {{\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\"}}\n\n");
    assert_eq!(streamed(&error).unwrap().get("error").and_then(|it| text(it, "code")), Some("server_error"));
}

#[test]
fn what_the_other_side_writes_is_read_back_whole_and_in_pieces() {
    let answer = json(
        r#"{"id":"a1","model":"m","text":"Straße, 北京 — done in a longer sentence","refusal":null,"stop":"tool_use",
        "tool_calls":[{"id":"c1","name":"f","arguments":{"x":"a long argument"}},{"id":"c2","name":"g","arguments":{}}],
        "usage":{"input":27,"cached":5,"cache_write":0,"output":9,"reasoning":2,"total":36}}"#,
    );
    for dialect in ["anthropic", "cohere", "ollama", "openai", "openai_responses"] {
        for stream in [false, true] {
            let question = object([
                ("stream", Value::Bool(stream)),
                ("stream_options", object([("include_usage", Value::Bool(true))])),
            ]);
            let payload = write_answer(dialect, &answer, &question, 1_795_000_000).unwrap();
            let read = decode(payload.content_type.as_deref(), &payload.bytes, &Value::Null).unwrap();
            let lost: &[&str] = match dialect {
                // Its answers name no model, and beside calls there is a plan instead of a text.
                "cohere" => &["model", "text", "usage"],
                "ollama" => &["id", "usage"],
                _ => &[],
            };
            for key in ["id", "model", "text", "refusal", "stop", "tool_calls", "usage"] {
                if !lost.contains(&key) {
                    assert_eq!(read.get(key), answer.get(key), "{dialect} {stream} {key}");
                }
            }
            let used = |answer: &Value| ["input", "output"].map(|key| count(answer.get("usage").unwrap().get(key)));
            assert_eq!(used(&read), used(&answer), "{dialect} {stream}");
            // A stream means the same as the whole, down to what goes back.
            let whole = write_answer(dialect, &answer, &Value::Null, 1_795_000_000).unwrap();
            let whole = decode(whole.content_type.as_deref(), &whole.bytes, &Value::Null).unwrap();
            assert_eq!(read.get("tool_calls"), whole.get("tool_calls"));
            if dialect != "openai" {
                assert_eq!(read.get("message"), whole.get("message"), "{dialect}");
            }
        }
    }
}

#[test]
fn a_question_is_read_back_by_the_other_side() {
    for dialect in ["anthropic", "cohere", "ollama", "openai", "openai_responses"] {
        let question = format!(
            r#"{{"dialect":"{dialect}","model":"m","max_tokens":600,"schema":{{"type":"object"}},"schema_name":"r","messages":[{{"role":"user","content":"x"}},
            {{"role":"assistant","tool_calls":[{{"id":"c","name":"f","arguments":{{"a":1}}}}]}},{{"role":"tool","tool_call_id":"c","content":"y"}}]}}"#
        );
        let read = read_question(dialect, &asked(&question)).unwrap();
        let own = json(&question);
        for key in ["model", "max_tokens"] {
            assert_eq!(read.get(key), own.get(key), "{dialect} {key}");
        }
        assert!(read.get("schema").is_some_and(|schema| schema.get("type") == Some(&"object".into())), "{dialect}");
        if dialect.starts_with("openai") {
            assert_eq!(read.get("schema_name"), own.get("schema_name"), "{dialect}");
        }
        let roles: Vec<_> = list(&read, "messages").iter().filter_map(|it| text(it, "role")).collect();
        assert_eq!(roles, ["user", "assistant", "tool"]);
        assert_eq!(list(&list(&read, "messages")[1], "tool_calls"), list(&list(&own, "messages")[1], "tool_calls"));
    }
}

#[test]
fn refusals_thoughts_and_failures_are_written_as_they_are_read() {
    let question = object([("stream", Value::Bool(true))]);
    let streamed = |dialect: &str, answer: &str| {
        let payload = write_answer(dialect, &json(answer), &question, 1).unwrap();
        decode(payload.content_type.as_deref(), &payload.bytes, &Value::Null).unwrap()
    };
    for dialect in ["openai", "openai_responses"] {
        let refused =
            streamed(dialect, r#"{"id":"a","model":"m","text":null,"refusal":"I will not.","stop":"refusal"}"#);
        assert_eq!(
            (text(&refused, "refusal"), refused.get("text")),
            (Some("I will not."), Some(&Value::Null)),
            "{dialect}"
        );
    }
    let thought = r#"{"id":"rs_1","type":"reasoning","summary":[]}"#;
    let thinking = streamed("openai_responses", &format!(r#"{{"id":"a","text":"x","thoughts":[{thought}]}}"#));
    assert_eq!(list(thinking.get("message").unwrap(), "raw").first(), Some(&json(thought)));
    let failed = streamed("openai_responses", r#"{"id":"a","error":{"code":"server_error","message":"x"}}"#);
    assert_eq!((text(&failed, "status"), text(&failed, "stop")), (Some("failed"), Some("other")));
}
