"""Ask a language model by OpenAI's SDK, which knows nothing of the gateway but its address.

    OPENAI_BASE_URL=https://localhost:8443/t/model/v1 OPENAI_API_KEY=TOKEN SSL_CERT_FILE=ca.crt \\
        python ask_model.py "What does customer 7 buy?"

The SDK reads all three from the environment. The answer is printed as it streams, and below it what it used. An error
of the SDK is printed with its own class. `.demo/bin/ask` runs this as alice.
"""

from __future__ import annotations

import argparse
import sys

import openai


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask a language model; its answer streams.")
    parser.add_argument("--model", default="gpt-demo")
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("question")
    options = parser.parse_args()
    try:
        with openai.OpenAI() as client:
            _ask(client, options)
    except openai.OpenAIError as error:
        print(f"openai.{type(error).__name__}: {_words(error)}", file=sys.stderr)
        return 1
    return 0


def _ask(client: openai.OpenAI, options: argparse.Namespace) -> None:
    stream = client.chat.completions.create(
        model=options.model,
        max_completion_tokens=options.max_tokens,
        messages=[{"role": "user", "content": options.question}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        if chunk.usage is not None:
            print(f"\n({chunk.usage.prompt_tokens} tokens in, {chunk.usage.completion_tokens} out)")


def _words(error: openai.OpenAIError) -> str:
    """The sentence of an error: that of the body, where there is one."""
    body = getattr(error, "body", None)
    return str(body["message"]) if isinstance(body, dict) and "message" in body else str(error)


if __name__ == "__main__":
    sys.exit(main())
