"""Groq's SDK."""

import groq
import openai_sdk


class Judge(openai_sdk.Judge):
    ERROR = groq.APIStatusError
    REASONING = "reasoning"

    def connect(self, key):
        return groq.Groq(base_url=f"{self.url}/groq", api_key=key, max_retries=0, timeout=20)

    def request(self, *arguments):
        request = super().request(*arguments)
        request.pop("stream_options", None)
        return request

    def together(self, chunks):
        chunks = list(chunks)
        whole = super().together([chunk.model_copy(update={"usage": None}) for chunk in chunks])
        return whole | {"usage": self.usage(chunks[-1].x_groq.usage)}

    def models(self):
        return sorted(model.id for model in self.client.models.list().data)
