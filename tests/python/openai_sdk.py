"""What the unmodified OpenAI SDK gets from the coordinator, as one JSON object for the test that started this.

    python openai_sdk.py BASE_URL KEY
"""

import json
import sys

import openai

base_url, key = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=30)
hello = [{"role": "user", "content": "Hello from the SDK"}]
seen = {}


def failed(call):
    """The exception's class and what it says."""
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, error.param]
    return None


whole = client.chat.completions.create(model="gpt-4o-mini", messages=hello)
seen["whole"] = {
    "text": whole.choices[0].message.content,
    "role": whole.choices[0].message.role,
    "finish_reason": whole.choices[0].finish_reason,
    "model": whole.model,
    "object": whole.object,
    "usage": whole.usage.model_dump(),
    "hybrid": whole.model_extra["hybrid"],
}

chunks = list(
    client.chat.completions.create(
        model="gpt-4o-mini", messages=hello, stream=True, stream_options={"include_usage": True}
    )
)
seen["stream"] = {
    "text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
    "role": chunks[0].choices[0].delta.role,
    "finish_reasons": [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason],
    "pieces": sum(1 for chunk in chunks if chunk.choices and chunk.choices[0].delta.content),
    "usage": chunks[-1].usage.model_dump(),
    "ids": len({chunk.id for chunk in chunks}),
}

with client.chat.completions.with_streaming_response.create(
    model="auto", messages=[{"role": "user", "content": "What is 2+2?"}], temperature=0
) as raw:
    seen["local"] = {"tier": raw.headers["x-hybrid-tier"], "text": raw.parse().choices[0].message.content}

agent = client.chat.completions.create(
    model="auto", messages=hello, extra_headers={"x-hybrid-agent": "CodeGenerator"}, extra_body={"service_tier": "flex"}
)
seen["agent"] = agent.model_extra["hybrid"]

# Without encoding_format the SDK asks for base64 and decodes it.
vectors = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
floats = client.embeddings.create(model="text-embedding-3-small", input="one", encoding_format="float")
seen["embeddings"] = {
    "count": len(vectors.data),
    "length": len(vectors.data[0].embedding),
    "same": max(abs(a - b) for a, b in zip(vectors.data[0].embedding, floats.data[0].embedding)) < 1e-6,
    "different": vectors.data[0].embedding != vectors.data[1].embedding,
    "tokens": vectors.usage.total_tokens,
}

seen["models"] = sorted(model.id for model in client.models.list())
seen["model"] = client.models.retrieve("demo").id

stranger = client.with_options(api_key="sk-of-somebody-else")
seen["errors"] = {
    "wrong key": failed(lambda: stranger.models.list()),
    "temperature": failed(lambda: client.chat.completions.create(model="gpt-4o-mini", messages=hello, temperature=9)),
    "messages": failed(lambda: client.chat.completions.create(model="gpt-4o-mini", messages=[])),
    "model": failed(lambda: client.chat.completions.create(model="gpt-99", messages=hello)),
    "stream": failed(lambda: list(client.chat.completions.create(model="gpt-99", messages=hello, stream=True))),
    "retrieve": failed(lambda: client.models.retrieve("gpt-99")),
    "embeddings": failed(lambda: client.embeddings.create(model="gpt-4o-mini", input="one")),
}
print(json.dumps(seen))
