"""Anthropic's SDK."""

import anthropic
from words import answer, failed, used


class Judge:
    MODEL = "claude-sonnet-5"

    def __init__(self, url, key):
        self.url = url
        self.client = self.connect(key)

    def connect(self, key):
        return anthropic.Anthropic(base_url=f"{self.url}/anthropic", api_key=key, max_retries=0, timeout=20)

    def request(self, conversation, tools, schema=None, picture=None, max_tokens=None, model=None):
        messages = [{"role": role, "content": text} for role, text in conversation if role != "system"]
        if picture:
            source = {"type": "base64", "media_type": "image/png", "data": picture}
            text = {"type": "text", "text": messages[-1]["content"]}
            messages[-1]["content"] = [text, {"type": "image", "source": source}]
        request = {"model": model or self.MODEL, "messages": messages, "max_tokens": max_tokens or 1000}
        if conversation[0][0] == "system":
            request["system"] = conversation[0][1]
        if tools:
            request["tools"] = [
                {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
                for tool in tools
            ]
        if schema:
            request["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return request

    def ask(self, conversation, stream=False, tools=None, schema=None, picture=None, max_tokens=None, model=None):
        request = self.request(conversation, tools, schema, picture, max_tokens, model)
        if not stream:
            return self.whole(self.client.messages.create(**request))
        with self.client.messages.stream(**request) as events:
            text = "".join(events.text_stream)
            whole = self.whole(events.get_final_message())
        assert text == whole["text"], (text, whole)
        return whole

    def whole(self, reply):
        text = "".join(block.text for block in reply.content if block.type == "text")
        reasoning = "".join(block.thinking for block in reply.content if block.type == "thinking")
        calls = [
            {"name": block.name, "arguments": block.input} for block in reply.content if block.type == "tool_use"
        ]
        usage = reply.usage
        cached = usage.cache_read_input_tokens
        all_input = usage.input_tokens + cached + usage.cache_creation_input_tokens
        thought = usage.output_tokens_details.thinking_tokens
        tokens = used(all_input, usage.output_tokens, cached, thought)
        return answer(text, reasoning, calls, reply.stop_reason, tokens)

    def raw(self, conversation, tools):
        return self.client.messages.create(**self.request(conversation, tools))

    def answer_calls(self, conversation, said, results, tools):
        request = self.request(conversation, tools)
        request["messages"].append({"role": "assistant", "content": said.content})
        calls = [block for block in said.content if block.type == "tool_use"]
        request["messages"].append({
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": call.id, "content": result}
                for call, result in zip(calls, results, strict=True)
            ],
        })
        return self.whole(self.client.messages.create(**request))

    def embed(self, texts):
        return None

    def models(self):
        return sorted(model.id for model in self.client.models.list())

    def stranger(self, conversation):
        return type(self)(self.url, "sk-ant-of-somebody-else").ask(conversation)

    def failure(self, error):
        if isinstance(error, anthropic.APIStatusError):
            return failed(error, error.status_code, error.response.headers.get("retry-after"))
        return failed(error, None)
