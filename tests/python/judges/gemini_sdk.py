"""Google's SDK with a key of AI Studio."""

import base64

from google import genai
from google.genai import errors, types
from words import EndedEarly, answer, failed, used


class Judge:
    MODEL = "gemini-2.5-flash"
    EMBEDDING = "gemini-embedding-001"

    def __init__(self, url, key):
        self.url = url
        self.client = self.connect(key)

    def connect(self, key):
        return genai.Client(api_key=key, http_options=self.options("gemini"))

    def options(self, house):
        return types.HttpOptions(base_url=f"{self.url}/{house}", timeout=20_000)

    def request(self, conversation, tools=None, schema=None, picture=None, max_tokens=None, model=None):
        contents = [types.UserContent(text) for role, text in conversation if role == "user"]
        if picture:
            bytes = base64.b64decode(picture)
            contents[-1].parts.append(types.Part.from_bytes(data=bytes, mime_type="image/png"))
        config = types.GenerateContentConfig(max_output_tokens=max_tokens)
        if conversation[0][0] == "system":
            config.system_instruction = conversation[0][1]
        if tools:
            functions = [
                types.FunctionDeclaration(
                    name=tool["name"], description=tool["description"], parameters_json_schema=tool["parameters"]
                )
                for tool in tools
            ]
            config.tools = [types.Tool(function_declarations=functions)]
        if schema:
            config.response_mime_type = "application/json"
            config.response_json_schema = schema
        return {"model": model or self.MODEL, "contents": contents, "config": config}

    def ask(self, conversation, stream=False, **named):
        request = self.request(conversation, **named)
        if not stream:
            return self.together([self.client.models.generate_content(**request)])
        return self.together(self.client.models.generate_content_stream(**request))

    def together(self, replies):
        text, reasoning, calls, finish, usage = "", "", [], None, None
        for reply in replies:
            usage = reply.usage_metadata
            for candidate in reply.candidates:
                finish = candidate.finish_reason.value if candidate.finish_reason else finish
                for part in candidate.content.parts or []:
                    if part.function_call:
                        calls.append({"name": part.function_call.name, "arguments": part.function_call.args})
                    elif part.thought:
                        reasoning += part.text
                    else:
                        text += part.text or ""
        if finish is None:
            raise EndedEarly
        thoughts = usage.thoughts_token_count or 0
        tokens = used(
            usage.prompt_token_count,
            usage.candidates_token_count + thoughts,
            usage.cached_content_token_count or 0,
            thoughts,
        )
        return answer(text, reasoning, calls, finish, tokens)

    def raw(self, conversation, tools):
        return self.client.models.generate_content(**self.request(conversation, tools))

    def answer_calls(self, conversation, said, results, tools):
        request = self.request(conversation, tools)
        parts = []
        for call, result in zip(said.function_calls, results, strict=True):
            part = types.Part.from_function_response(name=call.name, response={"output": result})
            part.function_response.id = call.id
            parts.append(part)
        request["contents"] += [said.candidates[0].content, types.Content(role="user", parts=parts)]
        return self.together([self.client.models.generate_content(**request)])

    def embed(self, texts):
        reply = self.client.models.embed_content(model=self.EMBEDDING, contents=texts)
        return [one.values for one in reply.embeddings]

    def models(self):
        return sorted(model.name.removeprefix("models/") for model in self.client.models.list())

    def stranger(self, conversation):
        return type(self)(self.url, "AIza-of-somebody-else").ask(conversation)

    def failure(self, error):
        if isinstance(error, errors.APIError):
            details = (error.details or {}).get("error", {}).get("details", [])
            waits = [detail["retryDelay"] for detail in details if "retryDelay" in detail]
            return failed(error, error.code, waits[0].removesuffix("s") if waits else None)
        return failed(error, None)
