"""Asks a stand-in of Ollama by Ollama's own client.

    ollama_client.py BASE_URL

Prints one `ok` line for each thing that works, and ends with an exception at the first that does not.
"""

import json
import math
import sys

import ollama

MODEL = "llama3.2"
THINKER = "gpt-oss:20b"
EMBEDDER = "nomic-embed-text"


def ok(what):
    print(f"ok {what}", flush=True)


def check(holds, shown):
    if not holds:
        raise AssertionError(repr(shown))


def refused(call, status, words):
    try:
        answer = call()
    except ollama.ResponseError as error:
        check(error.status_code == status and words in error.error, (error.status_code, error.error))
        return
    raise AssertionError(f"was answered: {answer!r}")


def said(text):
    return [{"role": "user", "content": text}]


def get_quote(symbol: str) -> str:
    """Last price

    Args:
      symbol: whose
    """
    return "101.25"


def chat(client):
    answer = client.chat(MODEL, said("Post about release 2.4"))
    check("release 2.4" in answer.message.content and answer.done and answer.done_reason == "stop", answer)
    check(answer.prompt_eval_count > 0 and answer.eval_count > 0 and answer.total_duration > 0, answer)
    ok("chat")

    # Asked without a word the server streams, which the client does not do by itself.
    pieces = list(client.chat(MODEL, said("Post about release 2.4"), stream=True))
    check("".join(piece.message.content for piece in pieces) == answer.message.content and len(pieces) > 3, pieces)
    check([piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True], pieces)
    check(pieces[-1].eval_count == answer.eval_count, pieces[-1])
    ok("chat in lines")

    short = client.chat(MODEL, said("Tell me all"), options={"num_predict": 4})
    check(short.done_reason == "length" and short.eval_count <= 4, short)
    ok("chat cut short")


def thinking(client):
    loud = client.chat(THINKER, said("Hi there"), think="low")
    check(loud.message.thinking and loud.message.content, loud)
    quiet = client.chat(THINKER, said("Hi there"), think=False)
    check(not quiet.message.thinking and quiet.message.content, quiet)
    refused(lambda: client.chat(MODEL, said("x"), think=True), 400, "does not support thinking")
    ok("thinking")


def tools(client):
    messages = said("What is the quote of ACME?")
    first = client.chat(MODEL, messages, tools=[get_quote])
    call = first.message.tool_calls[0].function
    check(call.name == "get_quote" and set(call.arguments) == {"symbol"} and first.done_reason == "stop", first)
    messages += [first.message, {"role": "tool", "tool_name": "get_quote", "content": get_quote(**call.arguments)}]
    second = client.chat(MODEL, messages, tools=[get_quote])
    check("101.25" in second.message.content and not second.message.tool_calls, second)
    streamed = list(client.chat(MODEL, said("What is the quote of ACME?"), tools=[get_quote], stream=True))
    whole = [piece for piece in streamed if piece.message.tool_calls]
    check(len(whole) == 1 and whole[0].message.tool_calls[0].function.arguments == call.arguments, streamed)
    ok("tools")


def schema(client):
    form = {"type": "object", "required": ["score"], "properties": {"score": {"type": "integer"}}}
    answer = client.chat(MODEL, said("Rate: Ship it"), format=form)
    check(isinstance(json.loads(answer.message.content)["score"], int), answer)
    check(isinstance(json.loads(client.chat(MODEL, said("As JSON"), format="json").message.content), dict), "json")
    ok("an answer by a schema")


def embed(client):
    made = client.embed(EMBEDDER, ["release notes", "notes on a release", "a warm pullover"], dimensions=256)
    vectors = made.embeddings
    check(len(vectors) == 3 and all(abs(math.hypot(*vector) - 1) < 1e-4 for vector in vectors), made)
    near, far = (sum(a * b for a, b in zip(vectors[0], other)) for other in vectors[1:])
    check(near > far + 0.2 and made.prompt_eval_count > 0, (near, far))
    check(client.embed(EMBEDDER, "release notes", dimensions=256).embeddings[0] == vectors[0], "not the same")
    ok("embed")


def models(client):
    listed = [model.model for model in client.list().models]
    check("llama3.2:latest" in listed and THINKER in listed, listed)
    shown = client.show(MODEL)
    check("tools" in shown.capabilities and shown.modelinfo["llama.context_length"] == 131072, shown)
    check("embedding" in client.show(EMBEDDER).capabilities, "capabilities")
    refused(lambda: client.chat("nobody", said("x")), 404, "model 'nobody' not found")
    ok("models")


def main():
    client = ollama.Client(host=sys.argv[1], timeout=20)
    chat(client)
    thinking(client)
    tools(client)
    schema(client)
    embed(client)
    models(client)


if __name__ == "__main__":
    main()
