"""Ollama's SDK."""

import ollama
from words import answer, failed, used


class Judge:
    MODEL = "llama3.2"
    EMBEDDING = "nomic-embed-text"

    def __init__(self, url, key):
        self.url = url
        self.client = self.connect(key)

    def connect(self, key):
        return ollama.Client(f"{self.url}/ollama", headers={"authorization": f"Bearer {key}"}, timeout=20)

    def request(self, conversation, tools=None, schema=None, picture=None, max_tokens=None, model=None):
        messages = [{"role": role, "content": text} for role, text in conversation]
        if picture:
            messages[-1]["images"] = [picture]
        request = {"model": model or self.MODEL, "messages": messages, "format": schema}
        if tools:
            request["tools"] = [{"type": "function", "function": tool} for tool in tools]
        if max_tokens:
            request["options"] = {"num_predict": max_tokens}
        return request

    def ask(self, conversation, stream=False, **named):
        reply = self.client.chat(**self.request(conversation, **named), stream=stream)
        return self.together(reply if stream else [reply])

    def together(self, replies):
        text, reasoning, calls, last = "", "", [], None
        for reply in replies:
            last = reply
            text += reply.message.content or ""
            reasoning += reply.message.thinking or ""
            calls += [
                {"name": call.function.name, "arguments": call.function.arguments}
                for call in reply.message.tool_calls or []
            ]
        usage = used(last.prompt_eval_count, last.eval_count) if last.done else None
        return answer(text, reasoning, calls, last.done_reason, usage)

    def raw(self, conversation, tools):
        return self.client.chat(**self.request(conversation, tools)).message

    def answer_calls(self, conversation, said, results, tools):
        request = self.request(conversation, tools)
        request["messages"].append(said)
        for call, result in zip(said.tool_calls, results, strict=True):
            request["messages"].append({"role": "tool", "tool_name": call.function.name, "content": result})
        return self.together([self.client.chat(**request)])

    def embed(self, texts):
        return [list(one) for one in self.client.embed(model=self.EMBEDDING, input=texts).embeddings]

    def models(self):
        """Also: a model that is not there is fetched and then is."""
        steps = [step.status for step in self.client.pull("qwen3", stream=True)]
        assert steps[0] == "pulling manifest" and steps[-1] == "success", steps
        shown = self.client.show("qwen3")
        assert "tools" in shown.capabilities and shown.modelinfo["llama.context_length"] == 131072
        return sorted(model.model for model in self.client.list().models)

    def stranger(self, conversation):
        return type(self)(self.url, "somebody-else").ask(conversation)

    def failure(self, error):
        if isinstance(error, ollama.ResponseError):
            return failed(error, error.status_code)
        return failed(error, None)
