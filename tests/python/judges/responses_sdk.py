"""OpenAI's SDK: the Responses API."""

import json

import openai_sdk
from words import EndedEarly, answer, used


class Judge(openai_sdk.Judge):
    def request(self, conversation, stream, tools, schema, picture, max_tokens, model):
        items = [{"role": role, "content": text} for role, text in conversation]
        if picture:
            image = {"type": "input_image", "image_url": f"data:image/png;base64,{picture}", "detail": "auto"}
            items[-1]["content"] = [{"type": "input_text", "text": items[-1]["content"]}, image]
        request = {"model": model or self.MODEL, "input": items, "store": False}
        if tools:
            request["tools"] = [{"type": "function", "strict": False} | tool for tool in tools]
        if schema:
            shape = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
            request["text"] = {"format": shape}
        if max_tokens:
            request["max_output_tokens"] = max_tokens
        return request

    def ask(self, conversation, stream=False, tools=None, schema=None, picture=None, max_tokens=None, model=None):
        request = self.request(conversation, stream, tools, schema, picture, max_tokens, model)
        if not stream:
            return self.whole(self.client.responses.create(**request))
        deltas, last = [], None
        with self.client.responses.stream(**request) as events:
            for event in events:
                last = event
                if event.type == "response.output_text.delta":
                    deltas.append(event.delta)
        if last.type not in ("response.completed", "response.incomplete"):
            raise EndedEarly(last.type)
        whole = self.whole(last.response)
        assert "".join(deltas) == whole["text"], (deltas, whole)
        return whole

    def whole(self, reply):
        reasoning = "".join(
            part.text for item in reply.output if item.type == "reasoning" for part in item.summary
        )
        calls = [
            {"name": item.name, "arguments": json.loads(item.arguments)}
            for item in reply.output
            if item.type == "function_call"
        ]
        finish = reply.incomplete_details.reason if reply.incomplete_details else reply.status
        usage = reply.usage
        tokens = used(
            usage.input_tokens,
            usage.output_tokens,
            usage.input_tokens_details.cached_tokens,
            usage.output_tokens_details.reasoning_tokens,
        )
        return answer(reply.output_text, reasoning, calls, finish, tokens)

    def raw(self, conversation, tools):
        return self.client.responses.create(**self.request(conversation, False, tools, None, None, None, None))

    def answer_calls(self, conversation, said, results, tools):
        request = self.request(conversation, False, tools, None, None, None, None)
        request["input"] += [item.model_dump(exclude_none=True) for item in said.output]
        calls = [item for item in said.output if item.type == "function_call"]
        for call, result in zip(calls, results, strict=True):
            request["input"].append({"type": "function_call_output", "call_id": call.call_id, "output": result})
        return self.whole(self.client.responses.create(**request))
