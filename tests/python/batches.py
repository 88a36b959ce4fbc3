"""What Anthropic's own SDK makes of the batches of the provider that runs jobs, as one JSON object.

    python batches.py URL KEY
"""

import json
import sys

import anthropic

url, key = sys.argv[1:]
client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20)
batches = client.messages.batches


def request(name, text):
    message = {"role": "user", "content": text}
    return {"custom_id": name, "params": {"model": "claude-sonnet-5", "max_tokens": 100, "messages": [message]}}


def ended(batch):
    while batch.processing_status != "ended":
        batch = batches.retrieve(batch.id)
    return batch


def result(line):
    told = line.result
    if told.type == "succeeded":
        return [told.type, told.message.content[0].text, told.message.usage.output_tokens]
    return [told.type, told.error.error.type] if told.type == "errored" else [told.type]


def results(batch):
    return {line.custom_id: result(line) for line in batches.results(batch.id)}


batch = batches.create(requests=[request("a", "hello"), request("b", "please refuse"), request("c", "please expire")])
seen = {"created": [batch.processing_status, batch.request_counts.processing]}
seen["listed"] = [one.id == batch.id for one in batches.list(limit=5)]
batch = ended(batch)
counts = batch.request_counts
seen["counts"] = [counts.succeeded, counts.errored, counts.expired, counts.canceled]
seen["results"] = results(batch)
second = batches.create(requests=[request("a", "hello"), request("b", "hello")])
seen["cancelling"] = batches.cancel(second.id).processing_status
seen["cancelled"] = results(ended(second))
try:
    batches.create(requests=[request("not a name", "hello")])
except anthropic.APIStatusError as error:
    seen["refused"] = [type(error).__name__, error.status_code]
print(json.dumps(seen))
