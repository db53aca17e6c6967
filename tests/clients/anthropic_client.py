"""Asks a stand-in of Anthropic by Anthropic's own client.

    anthropic_client.py BASE_URL API_KEY

Prints one `ok` line for each thing that works, and ends with an exception at the first that does not.
"""

import json
import sys

import anthropic
import httpx
from anthropic import Anthropic

MODEL = "claude-sonnet-5-5"
PLAIN = "claude-haiku-4-5-20251001"
QUOTE = {
    "name": "get_quote",
    "description": "Last price",
    "input_schema": {"type": "object", "properties": {"symbol": {"type": "string"}}, "required": ["symbol"]},
}


def ok(what):
    print(f"ok {what}", flush=True)


def check(holds, shown):
    if not holds:
        raise AssertionError(repr(shown))


def refused(kind, call, status, type):
    """Returns the error of a call that must be refused so."""
    try:
        answer = call()
    except kind as error:
        check(error.status_code == status, error)
        check(error.body["error"]["type"] == type, error.body)
        check(error.request_id, error)
        return error
    raise AssertionError(f"was answered: {answer!r}")


def said(text):
    return [{"role": "user", "content": text}]


def texts(message):
    return "".join(block.text for block in message.content if block.type == "text")


def messages(client):
    answer = client.messages.create(model=PLAIN, max_tokens=200, messages=said("Post about release 2.4"))
    check("release 2.4" in texts(answer) and answer.stop_reason == "end_turn", answer)
    check(answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage)
    check(answer._request_id, answer)
    ok("messages")

    with client.messages.stream(model=PLAIN, max_tokens=200, messages=said("Post about release 2.4")) as stream:
        pieces = list(stream.text_stream)
        whole = stream.get_final_message()
    check("".join(pieces) == texts(answer) and len(pieces) > 3, pieces)
    check(whole.usage.output_tokens == answer.usage.output_tokens, (whole.usage, answer.usage))
    ok("messages streamed")

    short = client.messages.create(model=PLAIN, max_tokens=4, messages=said("Tell me all"))
    check(short.stop_reason == "max_tokens" and short.usage.output_tokens <= 4, short)
    stopped = client.messages.create(model=PLAIN, max_tokens=99, messages=said("one two three"), stop_sequences=["two"])
    check(stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == "two", stopped)
    ok("messages cut short")


def thinking(client):
    answer = client.messages.create(model=MODEL, max_tokens=400, messages=said("Hi there"))
    kinds = [block.type for block in answer.content]
    check(kinds == ["thinking", "text"] and answer.content[0].signature, answer)
    quiet = client.messages.create(
        model=MODEL, max_tokens=400, messages=said("Hi there"), thinking={"type": "disabled"}
    )
    check([block.type for block in quiet.content] == ["text"], quiet)
    ok("thinking")


def tools(client):
    messages = said("What is the quote of ACME?")
    ask = lambda **more: client.messages.create(model=MODEL, max_tokens=800, messages=messages, tools=[QUOTE], **more)
    first = ask(tool_choice={"type": "any"})
    call = next(block for block in first.content if block.type == "tool_use")
    check(first.stop_reason == "tool_use" and set(call.input) == {"symbol"} and call.id.startswith("toolu_"), first)
    messages.append({"role": "assistant", "content": first.content})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "101.25"}
    messages.append({"role": "user", "content": [result]})
    second = ask()
    check("101.25" in texts(second) and second.stop_reason == "end_turn", second)
    ok("tools")

    with client.messages.stream(
        model=MODEL,
        max_tokens=800,
        messages=said("What is the quote of ACME?"),
        tools=[QUOTE],
        tool_choice={"type": "tool", "name": "get_quote"},
    ) as stream:
        streamed = stream.get_final_message()
    again = next(block for block in streamed.content if block.type == "tool_use")
    check(again.input == call.input and streamed.content[0].signature, streamed)
    ok("tools streamed")

    # The thoughts must come back with their signature, and every call with its result.
    bare = [block.model_dump(exclude_none=True) for block in first.content]
    bare[0].pop("signature")
    messages[1] = {"role": "assistant", "content": bare}
    refused(anthropic.BadRequestError, ask, 400, "invalid_request_error")
    messages[1] = {"role": "assistant", "content": first.content}
    messages[2] = {"role": "user", "content": [dict(result, tool_use_id="toolu_nobody")]}
    refused(anthropic.BadRequestError, ask, 400, "invalid_request_error")
    ok("tools refused")


def schema(client):
    form = {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {"score": {"type": "integer"}, "mood": {"type": "string"}},
            "required": ["score", "mood"],
            "additionalProperties": False,
        },
    }
    ask = lambda form: client.messages.create(
        model=MODEL, max_tokens=400, messages=said("Rate: Ship it"), output_config={"effort": "low", "format": form}
    )
    answer = json.loads(texts(ask(form)))
    check(isinstance(answer["score"], int) and isinstance(answer["mood"], str), answer)
    open_form = {"type": "json_schema", "schema": {"type": "object", "properties": {}}}
    refused(anthropic.BadRequestError, lambda: ask(open_form), 400, "invalid_request_error")
    ok("an answer by a schema")


def cache(client):
    system = [{"type": "text", "text": "You know all of this. " * 50, "cache_control": {"type": "ephemeral"}}]
    ask = lambda text: client.messages.create(model=PLAIN, max_tokens=50, system=system, messages=said(text)).usage
    first, second = ask("one"), ask("two")
    check(first.cache_creation_input_tokens > 100 and first.cache_read_input_tokens == 0, first)
    check(second.cache_read_input_tokens == first.cache_creation_input_tokens, second)
    check(second.cache_creation_input_tokens == 0 and second.input_tokens < 50, second)
    ok("a cache")


def models(client):
    listed = [model.id for model in client.models.list(limit=2)]
    check(MODEL in listed and PLAIN in listed and len(listed) == len(set(listed)) > 4, listed)
    check(client.models.retrieve(MODEL).max_input_tokens == 1_000_000, listed)
    counted = client.messages.count_tokens(model=MODEL, messages=said("How many are these?"))
    check(counted.input_tokens > 3, counted)
    ok("models")


def refusals(client, base_url, api_key):
    ask = client.messages.create
    refused(anthropic.NotFoundError, lambda: ask(model="claude-9", max_tokens=9, messages=said("x")), 404, "not_found_error")
    sampled = lambda: ask(model=MODEL, max_tokens=9, messages=said("x"), extra_body={"temperature": 1})
    refused(anthropic.BadRequestError, sampled, 400, "invalid_request_error")
    prefilled = said("x") + [{"role": "assistant", "content": "It is"}]
    refused(anthropic.BadRequestError, lambda: ask(model=MODEL, max_tokens=9, messages=prefilled), 400, "invalid_request_error")
    stranger = Anthropic(base_url=base_url, api_key="sk-nobody", max_retries=0)
    refused(anthropic.AuthenticationError, lambda: list(stranger.models.list()), 401, "authentication_error")
    ok("refusals")
    # The other header, the older version, and none at all.
    post = lambda headers, body: httpx.post(f"{base_url}/v1/messages", headers=headers, json=body)
    body = {"model": PLAIN, "max_tokens": 9, "temperature": 0.5, "messages": said("x")}
    old = {"x-api-key": api_key, "anthropic-version": "2023-06-01"}
    check(post(old, body).status_code == 200, post(old, body).text)
    missing = post({"x-api-key": api_key}, body)
    check(missing.status_code == 400 and "anthropic-version" in missing.text, missing.text)
    ok("both headers and both versions")


def limits(client):
    headers = client.messages.with_raw_response.create(model=PLAIN, max_tokens=9, messages=said("x")).headers
    for kind in ["requests", "tokens"]:
        limit, left = (int(headers[f"anthropic-ratelimit-{kind}-{word}"]) for word in ["limit", "remaining"])
        check(0 <= left < limit and headers[f"anthropic-ratelimit-{kind}-reset"].endswith("Z"), headers)
    ok("limits")


def main():
    base_url, api_key = sys.argv[1:]
    client = Anthropic(base_url=base_url, api_key=api_key, timeout=20, max_retries=1)
    messages(client)
    thinking(client)
    tools(client)
    schema(client)
    cache(client)
    models(client)
    refusals(client, base_url, api_key)
    limits(client)


if __name__ == "__main__":
    main()
