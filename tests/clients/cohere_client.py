"""Asks a stand-in of Cohere by Cohere's own client.

    cohere_client.py BASE_URL API_KEY

Prints one `ok` line for each thing that works, and ends with an exception at the first that does not.
"""

import json
import math
import sys

import cohere
from cohere.errors import BadRequestError
from cohere.errors import NotFoundError
from cohere.errors import UnauthorizedError

MODEL = "command-a-03-2025"
THINKER = "command-a-reasoning-08-2025"
EMBEDDER = "embed-v4.0"
QUOTE = {
    "type": "function",
    "function": {
        "name": "get_quote",
        "description": "Last price",
        "parameters": {"type": "object", "properties": {"symbol": {"type": "string"}}, "required": ["symbol"]},
    },
}


def ok(what):
    print(f"ok {what}", flush=True)


def check(holds, shown):
    if not holds:
        raise AssertionError(repr(shown))


def refused(kind, call):
    try:
        answer = call()
    except kind as error:
        body = error.body if isinstance(error.body, dict) else error.body.dict()
        check(body["message"] and body["id"], error)
        return error
    raise AssertionError(f"was answered: {answer!r}")


def said(text):
    return [{"role": "user", "content": text}]


def texts(message):
    return "".join(part.text for part in message.content or [] if part.type == "text")


def chat(client):
    answer = client.chat(model=MODEL, messages=said("Post about release 2.4"))
    check("release 2.4" in texts(answer.message) and answer.finish_reason == "COMPLETE", answer)
    billed, all_tokens = answer.usage.billed_units, answer.usage.tokens
    check(0 < billed.input_tokens < all_tokens.input_tokens and billed.output_tokens > 0, answer.usage)
    ok("chat")

    events = list(client.chat_stream(model=MODEL, messages=said("Post about release 2.4")))
    pieces = [event.delta.message.content.text for event in events if event.type == "content-delta"]
    check("".join(pieces) == texts(answer.message) and len(pieces) > 3, events)
    check(events[0].type == "message-start" and events[-1].type == "message-end", events)
    check(events[-1].delta.usage.billed_units.input_tokens == billed.input_tokens, events[-1])
    ok("chat streamed")

    short = client.chat(model=MODEL, messages=said("Tell me all"), max_tokens=4)
    check(short.finish_reason == "MAX_TOKENS" and short.usage.billed_units.output_tokens <= 4, short)
    stopped = client.chat(model=MODEL, messages=said("one two three"), stop_sequences=["two"])
    check(stopped.finish_reason == "STOP_SEQUENCE" and "two" not in texts(stopped.message), stopped)
    thinking = client.chat(model=THINKER, messages=said("Hi there"))
    check([part.type for part in thinking.message.content] == ["thinking", "text"], thinking)
    quiet = client.chat(model=THINKER, messages=said("Hi there"), thinking={"type": "disabled"})
    check([part.type for part in quiet.message.content] == ["text"], quiet)
    ok("chat cut short, and thinking")


def tools(client):
    messages = said("What is the quote of ACME?")
    first = client.chat(model=MODEL, messages=messages, tools=[QUOTE], tool_choice="REQUIRED")
    call = first.message.tool_calls[0]
    check(first.finish_reason == "TOOL_CALL" and not first.message.content and first.message.tool_plan, first)
    check(set(json.loads(call.function.arguments)) == {"symbol"} and call.id.startswith("get_quote_"), call)
    messages.append(first.message)
    result = {"type": "document", "document": {"data": json.dumps({"price": "101.25"})}}
    messages.append({"role": "tool", "tool_call_id": call.id, "content": [result]})
    second = client.chat(model=MODEL, messages=messages, tools=[QUOTE])
    check("101.25" in texts(second.message) and second.finish_reason == "COMPLETE", second)
    ok("tools")

    events = list(
        client.chat_stream(
            model=MODEL, messages=said("What is the quote of ACME?"), tools=[QUOTE], tool_choice="REQUIRED"
        )
    )
    start = next(event for event in events if event.type == "tool-call-start")
    check(start.delta.message.tool_calls.function.name == "get_quote", start)
    deltas = [event.delta.message.tool_calls.function.arguments for event in events if event.type == "tool-call-delta"]
    check(json.loads("".join(deltas)) == json.loads(call.function.arguments), deltas)
    check(any(event.type == "tool-plan-delta" for event in events), events)
    ok("tools streamed")

    dashed = json.loads(json.dumps(QUOTE).replace("get_quote", "get-quote"))
    refused(BadRequestError, lambda: client.chat(model=MODEL, messages=said("x"), tools=[dashed]))
    ok("a name that is none")


def schema(client):
    form = {
        "type": "json_object",
        "json_schema": {"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}},
    }
    answer = client.chat(model=MODEL, messages=said("Rate as JSON: Ship it"), response_format=form)
    check(isinstance(json.loads(texts(answer.message))["score"], int), answer)
    ok("an answer by a schema")


def embed(client):
    made = client.embed(
        model=EMBEDDER,
        texts=["release notes", "notes on a release", "a warm pullover"],
        input_type="search_document",
        embedding_types=["float"],
        output_dimension=256,
    )
    vectors = made.embeddings.float_
    check(len(vectors) == 3 and all(len(vector) == 256 for vector in vectors), made)
    check(all(abs(math.hypot(*vector) - 1) < 1e-4 for vector in vectors), "length")
    near, far = (sum(a * b for a, b in zip(vectors[0], other)) for other in vectors[1:])
    check(near > far + 0.2, (near, far))
    check(made.meta.billed_units.input_tokens > 0, made.meta)
    ok("embed")


def models(client):
    listed = client.models.list(page_size=3)
    names = [model.name for model in listed.models]
    while listed.next_page_token:
        listed = client.models.list(page_size=3, page_token=listed.next_page_token)
        names += [model.name for model in listed.models]
    check(MODEL in names and EMBEDDER in names and len(names) == len(set(names)), names)
    check(client.models.get(MODEL).context_length == 256000, names)
    ok("models")


def refusals(client, base_url):
    refused(NotFoundError, lambda: client.chat(model="command-z", messages=said("x")))
    refused(BadRequestError, lambda: client.chat(model=MODEL, messages=said("x"), temperature=3))
    stranger = cohere.ClientV2(api_key="nobody", base_url=base_url)
    refused(UnauthorizedError, lambda: stranger.chat(model=MODEL, messages=said("x")))
    ok("refusals")


def main():
    base_url, api_key = sys.argv[1:]
    client = cohere.ClientV2(api_key=api_key, base_url=base_url, timeout=20)
    chat(client)
    tools(client)
    schema(client)
    embed(client)
    models(client)
    refusals(client, base_url)


if __name__ == "__main__":
    main()
