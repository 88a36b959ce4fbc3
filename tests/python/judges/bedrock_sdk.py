"""AWS's SDK: Converse, ConverseStream and InvokeModel, signed, with the checksums of the event stream checked."""

import base64
import json

import boto3
import botocore.config
import botocore.exceptions
from words import answer, failed, used


class Judge:
    MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    TITAN = "amazon.titan-embed-text-v2:0"
    COHERE = "cohere.embed-v4:0"
    NLLB = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/nllb-200"

    def __init__(self, url, key):
        self.url = url
        self.client = self.connect(key)

    def connect(self, key):
        config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=20)
        return boto3.client(
            "bedrock-runtime",
            endpoint_url=f"{self.url}/bedrock",
            region_name="eu-central-1",
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key=key,
            aws_session_token="a/session+token==",
            config=config,
        )

    def request(self, conversation, tools=None, schema=None, picture=None, max_tokens=None, model=None):
        messages = [
            {"role": role, "content": [{"text": text}]} for role, text in conversation if role != "system"
        ]
        if picture:
            source = {"bytes": base64.b64decode(picture)}
            messages[-1]["content"].append({"image": {"format": "png", "source": source}})
        request = {"modelId": model or self.MODEL, "messages": messages}
        if conversation[0][0] == "system":
            request["system"] = [{"text": conversation[0][1]}]
        if tools:
            specs = [
                {
                    "toolSpec": {
                        "name": tool["name"],
                        "description": tool["description"],
                        "inputSchema": {"json": tool["parameters"]},
                    }
                }
                for tool in tools
            ]
            request["toolConfig"] = {"tools": specs}
        if schema:
            structure = {"jsonSchema": {"schema": json.dumps(schema), "name": "answer"}}
            request["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
        if max_tokens:
            request["inferenceConfig"] = {"maxTokens": max_tokens}
        return request

    def ask(self, conversation, stream=False, **named):
        request = self.request(conversation, **named)
        if stream:
            return self.together(self.client.converse_stream(**request)["stream"])
        return self.whole(self.client.converse(**request))

    def whole(self, reply):
        content = reply["output"]["message"]["content"]
        text = "".join(block.get("text", "") for block in content)
        thoughts = [block["reasoningContent"] for block in content if "reasoningContent" in block]
        reasoning = "".join(thought["reasoningText"]["text"] for thought in thoughts)
        calls = [
            {"name": block["toolUse"]["name"], "arguments": block["toolUse"]["input"]}
            for block in content
            if "toolUse" in block
        ]
        return answer(text, reasoning, calls, reply["stopReason"], self.usage(reply["usage"]))

    def together(self, events):
        text, reasoning, calls, finish, usage, signed = "", "", {}, None, None, False
        for event in events:
            for kind, body in event.items():
                if kind == "contentBlockStart":
                    use = body["start"]["toolUse"]
                    calls[body["contentBlockIndex"]] = {"name": use["name"], "arguments": ""}
                elif kind == "contentBlockDelta":
                    delta = body["delta"]
                    text += delta.get("text", "")
                    reasoning += delta.get("reasoningContent", {}).get("text", "")
                    signed |= "signature" in delta.get("reasoningContent", {})
                    if "toolUse" in delta:
                        calls[body["contentBlockIndex"]]["arguments"] += delta["toolUse"]["input"]
                elif kind == "messageStop":
                    finish = body["stopReason"]
                elif kind == "metadata":
                    usage = self.usage(body["usage"])
        assert signed == bool(reasoning)
        calls = [call | {"arguments": json.loads(call["arguments"])} for call in calls.values()]
        return answer(text, reasoning, calls, finish, usage)

    @staticmethod
    def usage(usage):
        cached = usage["cacheReadInputTokens"]
        all_input = usage["inputTokens"] + cached + usage["cacheWriteInputTokens"]
        assert usage["totalTokens"] == all_input + usage["outputTokens"]
        return used(all_input, usage["outputTokens"], cached)

    def raw(self, conversation, tools):
        return self.client.converse(**self.request(conversation, tools))["output"]["message"]

    def answer_calls(self, conversation, said, results, tools):
        request = self.request(conversation, tools)
        calls = [block["toolUse"] for block in said["content"] if "toolUse" in block]
        blocks = [
            {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": result}]}}
            for call, result in zip(calls, results, strict=True)
        ]
        request["messages"] += [said, {"role": "user", "content": blocks}]
        return self.whole(self.client.converse(**request))

    def invoke(self, model, body):
        reply = self.client.invoke_model(modelId=model, body=json.dumps(body))
        return json.loads(reply["body"].read())

    def embed(self, texts):
        titan = [self.invoke(self.TITAN, {"inputText": text})["embedding"] for text in texts]
        asked = {"texts": texts, "input_type": "search_document", "embedding_types": ["float"]}
        cohere = self.invoke(self.COHERE, asked)["embeddings"]["float"]
        assert titan == cohere, (titan, cohere)
        return titan

    def models(self):
        # the only question here that is Bedrock's alone: a translation
        parameters = {"src_lang": "deu_Latn", "tgt_lang": "eng_Latn"}
        return self.invoke(self.NLLB, {"inputs": "Guten Tag", "parameters": parameters})

    def stranger(self, conversation):
        return type(self)(self.url, "secret-of-somebody-else").ask(conversation)

    def failure(self, error):
        if isinstance(error, botocore.exceptions.ClientError):
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            return failed(error, error.response["Error"]["Code"], headers.get("retry-after"))
        return failed(error, None)
