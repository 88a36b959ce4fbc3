#!/usr/bin/env python3
"""Asks over HTTP with OpenAI's own SDK: whole, streamed, as an agent, and for vectors.

    pip install openai
    python examples/openai_sdk.py
    python examples/openai_sdk.py --base-url http://127.0.0.1:7070/v1 --key "$KEY"
"""

import argparse

import openai


def main():
    parser = argparse.ArgumentParser(description="Ask Hybrid LLM with the OpenAI SDK")
    parser.add_argument("--base-url", default="http://127.0.0.1:7070/v1")
    parser.add_argument("--key", default="not-needed", help="where request-coordinator.api_keys has some")
    parser.add_argument("--model", default="auto", help="alias or model; placement decides with auto")
    parser.add_argument("--embedding-model", default="embed/local")
    parser.add_argument("--agent", default="CodeGenerator", help="an agent of config/agents.toml")
    options = parser.parse_args()
    client = openai.OpenAI(base_url=options.base_url, api_key=options.key)
    question = [{"role": "user", "content": "What is 2+2?"}]

    whole = client.chat.completions.create(model=options.model, messages=question)
    # The SDK carries what it does not know: where it ran, what it cost and why.
    hybrid = whole.model_extra["hybrid"]
    print(f"whole     {whole.choices[0].message.content}  ({hybrid['tier']}, {hybrid['deployment']})")

    print("streamed  ", end="")
    for chunk in client.chat.completions.create(model=options.model, messages=question, stream=True):
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()

    # Under an agent's name the owner's matrix decides; more x-hybrid-* headers are in examples/README.md.
    as_agent = client.chat.completions.create(
        model=options.model, messages=question, extra_headers={"x-hybrid-agent": options.agent}
    )
    print(f"agent     {as_agent.choices[0].message.content}  ({'; '.join(as_agent.model_extra['hybrid']['reasons'])})")

    vectors = client.embeddings.create(model=options.embedding_model, input=["one text", "another text"])
    print(f"vectors   {len(vectors.data)} of {len(vectors.data[0].embedding)} numbers")


if __name__ == "__main__":
    try:
        main()
    except openai.APIStatusError as error:
        raise SystemExit(f"{error.code}: {error.message}") from None
    except openai.APIConnectionError:
        raise SystemExit("nobody answers there; `make up` starts everything") from None
