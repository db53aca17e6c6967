"""Asks a stand-in of OpenAI by OpenAI's own client.

    openai_client.py BASE_URL API_KEY       the base URL with its /v1
    openai_client.py --stream-breaks ...    where the stand-in was told to break the next stream off

Prints one `ok` line for each thing that works, and ends with an exception at the first that does not.
"""

import json
import math
import sys

import openai
from openai import OpenAI
from pydantic import BaseModel

MODEL = "gpt-6-luna"
THINKER = "gpt-6-sol"
EMBEDDER = "text-embedding-3-small"


class Rating(BaseModel):
    """What the answers with a schema are to be."""

    class Reason(BaseModel):
        words: str
        weight: float | None

    score: int
    mood: str
    reasons: list[Reason]


QUOTE = {
    "type": "object",
    "properties": {"symbol": {"type": "string"}},
    "required": ["symbol"],
    "additionalProperties": False,
}


def ok(what):
    print(f"ok {what}", flush=True)


def check(holds, shown):
    if not holds:
        raise AssertionError(repr(shown))


def refused(kind, call, status, code=None, param=None):
    """Returns the error of a call that must be refused so."""
    try:
        answer = call()
    except kind as error:
        check(error.status_code == status, error)
        check(code is None or error.code == code, (error.code, error))
        check(param is None or error.param == param, (error.param, error))
        check(error.request_id, error)
        return error
    raise AssertionError(f"was answered: {answer!r}")


def said(text):
    return [{"role": "user", "content": text}]


def models(client):
    listed = [model.id for model in client.models.list()]
    check(MODEL in listed and EMBEDDER in listed, listed)
    check(client.models.retrieve(MODEL).owned_by, listed)
    ok("models")


def completions(client):
    answer = client.chat.completions.create(model=MODEL, messages=said("Post about release 2.4"))
    choice = answer.choices[0]
    check("release 2.4" in choice.message.content and choice.finish_reason == "stop", answer)
    check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage)
    check(answer._request_id, answer)
    ok("completions")

    whole = choice.message.content
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=said("Post about release 2.4"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check(text == whole and len(chunks) > 3, chunks)
    check(chunks[-1].usage == answer.usage and not chunks[-1].choices, chunks[-1])
    ok("completions streamed")

    short = client.chat.completions.create(model=MODEL, messages=said("Tell me all"), max_completion_tokens=4)
    check(short.choices[0].finish_reason == "length" and short.usage.completion_tokens <= 4, short)
    ok("completions cut short")


def completions_tools(client):
    tools = [{"type": "function", "function": {"name": "get_quote", "strict": True, "parameters": QUOTE}}]
    messages = said("What is the quote of ACME?")
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=tools, tool_choice="required")
    message = first.choices[0].message
    call = message.tool_calls[0]
    check(first.choices[0].finish_reason == "tool_calls" and call.function.name == "get_quote", first)
    check(set(json.loads(call.function.arguments)) == {"symbol"}, call)
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "101.25"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    check("101.25" in second.choices[0].message.content, second)
    ok("completions tools")

    with client.chat.completions.stream(
        model=MODEL, messages=said("What is the quote of ACME?"), tools=tools, tool_choice="required"
    ) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0].function
    check(streamed.arguments == call.function.arguments, streamed)
    ok("completions tools streamed")


def completions_parsed(client):
    question = {"model": MODEL, "messages": said("Rate this post"), "response_format": Rating}
    parsed = client.chat.completions.parse(**question).choices[0].message.parsed
    check(isinstance(parsed, Rating), parsed)
    with client.chat.completions.stream(**question) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0].message.parsed
    check(streamed == parsed, (streamed, parsed))
    ok("completions parsed")


def responses(client):
    answer = client.responses.create(model=THINKER, input="Post about release 2.4", store=False)
    check("release 2.4" in answer.output_text and answer.status == "completed", answer)
    check(answer.usage.output_tokens > answer.usage.output_tokens_details.reasoning_tokens > 0, answer.usage)
    ok("responses")

    events = list(client.responses.create(model=THINKER, input="Post about release 2.4", store=False, stream=True))
    check([event.sequence_number for event in events] == list(range(len(events))), events)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    check(text == answer.output_text and events[-1].response.output_text == text, events)
    check(events[-1].type == "response.completed", events[-1])
    ok("responses streamed")

    with client.responses.stream(model=THINKER, input="Post about release 2.4", store=False) as stream:
        for _ in stream:
            pass
        check(stream.get_final_response().output_text == text, text)
    ok("responses accumulated")

    short = client.responses.create(model=THINKER, input="Tell me all", max_output_tokens=16, store=False)
    check(short.status == "incomplete" and short.incomplete_details.reason == "max_output_tokens", short)
    ok("responses cut short")

    parsed = client.responses.parse(model=THINKER, input="Rate this post", text_format=Rating, store=False)
    check(isinstance(parsed.output_parsed, Rating), parsed)
    ok("responses parsed")


def responses_tools(client):
    tools = [{"type": "function", "name": "get_quote", "strict": True, "parameters": QUOTE}]
    question = [{"role": "user", "content": "What is the quote of ACME?"}]
    first = client.responses.create(
        model=THINKER,
        input=question,
        tools=tools,
        tool_choice="required",
        store=False,
        include=["reasoning.encrypted_content"],
    )
    call = next(item for item in first.output if item.type == "function_call")
    thought = next(item for item in first.output if item.type == "reasoning")
    check(thought.encrypted_content and set(json.loads(call.arguments)) == {"symbol"}, first)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "101.25"}
    second = client.responses.create(model=THINKER, input=[*question, *first.output, result], tools=tools, store=False)
    check("101.25" in second.output_text, second)
    with client.responses.stream(
        model=THINKER, input=question, tools=tools, tool_choice="required", store=False
    ) as stream:
        for _ in stream:
            pass
        streamed = next(item for item in stream.get_final_response().output if item.type == "function_call")
    check(streamed.arguments == call.arguments, streamed)
    ok("responses tools")


def responses_kept(client):
    kept = client.responses.create(model=THINKER, input="Remember release 2.4", metadata={"run": "1"})
    again = client.responses.retrieve(kept.id)
    check(again.output_text == kept.output_text and again.metadata == {"run": "1"}, again)
    on = client.responses.create(model=THINKER, input="Go on", previous_response_id=kept.id)
    check(on.previous_response_id == kept.id and on.usage.input_tokens > kept.usage.input_tokens, on)
    client.responses.delete(kept.id)
    refused(openai.NotFoundError, lambda: client.responses.retrieve(kept.id), 404)
    loose = client.responses.create(model=THINKER, input="Forget it", store=False)
    refused(openai.NotFoundError, lambda: client.responses.retrieve(loose.id), 404)
    ok("responses kept")


def embeddings(client):
    texts = ["the release notes of the shop", "release note for our shop", "cats sleep all day"]
    # The client asks for base64 unless it is told otherwise.
    packed = client.embeddings.create(model=EMBEDDER, input=texts)
    vectors = [row.embedding for row in packed.data]
    check([row.index for row in packed.data] == [0, 1, 2] and len(vectors[0]) == 1536, packed)
    near = [sum(one * other for one, other in zip(vectors[0], vector)) for vector in vectors]
    check(math.isclose(near[0], 1, abs_tol=1e-4) and near[1] > near[2] + 0.2, near)
    check(packed.usage.total_tokens > 0, packed.usage)
    short = client.embeddings.create(model=EMBEDDER, input=texts[0], dimensions=8, encoding_format="float")
    check(len(short.data[0].embedding) == 8, short)
    ok("embeddings")


def refusals(client, base_url):
    ask = client.chat.completions.create
    refused(openai.NotFoundError, lambda: ask(model="gpt-0", messages=said("x")), 404, "model_not_found")
    ok("an unknown model")
    refused(openai.BadRequestError, lambda: ask(model=MODEL, messages=[]), 400, "empty_array", "messages")
    refused(
        openai.BadRequestError, lambda: ask(model=THINKER, messages=said("x"), temperature=0.4), 400, param="temperature"
    )
    refused(
        openai.BadRequestError,
        lambda: client.responses.create(model=THINKER, input="x", max_output_tokens=1),
        400,
        "integer_below_min_value",
        "max_output_tokens",
    )
    refused(openai.BadRequestError, lambda: client.embeddings.create(model=EMBEDDER, input=""), 400, param="input")
    ok("bad parameters")
    stranger = OpenAI(base_url=base_url, api_key="sk-nobody", max_retries=0)
    refused(openai.AuthenticationError, lambda: stranger.models.list(), 401, "invalid_api_key")
    ok("a wrong key")


def limits(client):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=said("x"))
    for kind in ["requests", "tokens"]:
        limit, left = (int(raw.headers[f"x-ratelimit-{word}-{kind}"]) for word in ["limit", "remaining"])
        check(0 <= left < limit and raw.headers[f"x-ratelimit-reset-{kind}"].endswith("s"), raw.headers)
    # What may become longer than all that a minute allows is never allowed.
    limit = int(raw.headers["x-ratelimit-limit-tokens"])
    once = client.with_options(max_retries=0)
    error = refused(
        openai.RateLimitError,
        lambda: once.chat.completions.create(model=MODEL, messages=said("x"), max_completion_tokens=limit + 1),
        429,
        "rate_limit_exceeded",
    )
    check(error.type == "tokens", error)
    ok("limits")


def stream_breaks(client):
    text = ""
    try:
        for chunk in client.chat.completions.create(model=MODEL, messages=said("Hi"), stream=True):
            text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        check("overloaded" in str(error), error)
        ok("a stream with an error in it")
        return
    raise AssertionError(f"the stream came to its end: {text!r}")


def main():
    breaks = "--stream-breaks" in sys.argv
    base_url, api_key = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    client = OpenAI(base_url=base_url, api_key=api_key, timeout=20, max_retries=1)
    if breaks:
        stream_breaks(client)
        return
    models(client)
    completions(client)
    completions_tools(client)
    completions_parsed(client)
    responses(client)
    responses_tools(client)
    responses_kept(client)
    embeddings(client)
    refusals(client, base_url)
    limits(client)


if __name__ == "__main__":
    main()
