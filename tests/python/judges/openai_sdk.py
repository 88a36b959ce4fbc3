"""OpenAI's SDK: chat completions and embeddings."""

import json

import openai
from words import answer, failed, used


class Judge:
    MODEL = "gpt-4o-mini"
    EMBEDDING = "text-embedding-3-small"
    ERROR = openai.APIStatusError
    REASONING = "reasoning_content"

    def __init__(self, url, key):
        self.url = url
        self.client = self.connect(key)

    def connect(self, key):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=20)

    def request(self, conversation, stream, tools, schema, picture, max_tokens, model):
        messages = [{"role": role, "content": text} for role, text in conversation]
        if picture:
            image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
            messages[-1]["content"] = [{"type": "text", "text": messages[-1]["content"]}, image]
        request = {"model": model or self.MODEL, "messages": messages}
        if stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        if tools:
            request["tools"] = [{"type": "function", "function": tool} for tool in tools]
        if schema:
            shape = {"name": "answer", "schema": schema, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": shape}
        if max_tokens:
            request["max_tokens"] = max_tokens
        return request

    def ask(self, conversation, stream=False, tools=None, schema=None, picture=None, max_tokens=None, model=None):
        request = self.request(conversation, stream, tools, schema, picture, max_tokens, model)
        reply = self.client.chat.completions.create(**request)
        return self.together(reply) if stream else self.whole(reply)

    def whole(self, reply):
        choice = reply.choices[0]
        calls = [
            {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
            for call in choice.message.tool_calls or []
        ]
        reasoning = getattr(choice.message, self.REASONING, None)
        return answer(choice.message.content, reasoning, calls, choice.finish_reason, self.usage(reply.usage))

    def together(self, chunks):
        text, reasoning, calls, finish, usage = "", "", {}, None, None
        for chunk in chunks:
            if chunk.usage:
                usage = self.usage(chunk.usage)
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reasoning += getattr(choice.delta, self.REASONING, None) or ""
                finish = choice.finish_reason or finish
                for call in choice.delta.tool_calls or []:
                    known = calls.setdefault(call.index, {"name": "", "arguments": ""})
                    known["name"] += call.function.name or ""
                    known["arguments"] += call.function.arguments
        calls = [call | {"arguments": json.loads(call["arguments"])} for call in calls.values()]
        return answer(text, reasoning, calls, finish, usage)

    @staticmethod
    def usage(usage):
        cached = usage.prompt_tokens_details.cached_tokens
        reasoning = usage.completion_tokens_details.reasoning_tokens
        return used(usage.prompt_tokens, usage.completion_tokens, cached, reasoning)

    def raw(self, conversation, tools):
        return self.client.chat.completions.create(
            **self.request(conversation, False, tools, None, None, None, None)
        ).choices[0].message

    def answer_calls(self, conversation, said, results, tools):
        request = self.request(conversation, False, tools, None, None, None, None)
        request["messages"].append(said)
        for call, result in zip(said.tool_calls, results, strict=True):
            request["messages"].append({"role": "tool", "tool_call_id": call.id, "content": result})
        return self.whole(self.client.chat.completions.create(**request))

    def embed(self, texts):
        reply = self.client.embeddings.create(model=self.EMBEDDING, input=texts)
        return [one.embedding for one in reply.data]

    def models(self):
        return sorted(model.id for model in self.client.models.list())

    def stranger(self, conversation):
        return type(self)(self.url, "sk-of-somebody-else").ask(conversation)

    def failure(self, error):
        if isinstance(error, self.ERROR):
            return failed(error, error.status_code, error.response.headers.get("retry-after"))
        return failed(error, None)
