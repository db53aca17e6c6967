// Serves the fake of many model providers that CopilotKit has written, on loopback; prints its port.
//
//     aimock.mjs
//
// It answers by the last message of the user: `hello` by a text, `quote` by the call of a tool and, with its result, by a
// text, `burst` by a stream that is cut off, `trouble` by an error.

import { LLMock } from "@copilotkit/aimock";

const usage = (input, output) => ({
  // Each shape has names of its own, and the fake takes all of them.
  input_tokens: input,
  output_tokens: output,
  prompt_tokens: input,
  completion_tokens: output,
  total_tokens: input + output,
});

const mock = new LLMock({ port: 0, host: "127.0.0.1" });
mock.on({ userMessage: "quote", hasToolResult: true }, { content: "ACME is at 101.25.", usage: usage(21, 6) });
mock.on(
  { userMessage: "quote" },
  { toolCalls: [{ name: "get_quote", arguments: JSON.stringify({ symbol: "ACME" }) }], usage: usage(15, 7) },
);
mock.on(
  { userMessage: "burst" },
  { content: "a text of some length that never comes to its end", usage: usage(9, 9) },
  { chunkSize: 4, truncateAfterChunks: 2 },
);
mock.on({ userMessage: "trouble" }, { error: { message: "Overloaded", type: "overloaded_error" }, status: 529 });
mock.on({ userMessage: "hello" }, { content: "Hi there, from a fake.", usage: usage(11, 5) });
await mock.start();
console.log(new URL(mock.url).port);
process.on("SIGTERM", () => process.exit(0));
