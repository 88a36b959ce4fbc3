"""What a provider's own SDK, as it comes from PyPI, makes of the scripted provider's answers, as one JSON object.

    python judges SDK URL KEY [SERVICE_ACCOUNT_FILE]

Every SDK is asked the same; each module here translates the questions to its SDK's calls and the SDK's answers to the same
words. The test that started this compares them (tests/tests/judges.rs).
"""

import importlib
import json
import sys
import urllib.request

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HELLO = [("system", "be brief"), ("user", "hello there")]
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
BERLIN = {"name": "weather", "arguments": {"city": "Berlin"}}
PARIS = {"name": "weather", "arguments": {"city": "Paris"}}

sdk, url, key = sys.argv[1:4]
judge = importlib.import_module(f"{sdk}_sdk").Judge(url, key, *sys.argv[4:])


def play(**script):
    request = urllib.request.Request(
        f"{url}/control", json.dumps(script).encode(), {"content-type": "application/json"}, method="PUT"
    )
    urllib.request.urlopen(request).read()


def tried(call, *arguments, **named):
    """The answer, or how the SDK failed."""
    try:
        return call(*arguments, **named)
    except Exception as error:
        return judge.failure(error)


def both(*arguments, **named):
    """Whole and streamed."""
    return {
        "whole": tried(judge.ask, *arguments, stream=False, **named),
        "stream": tried(judge.ask, *arguments, stream=True, **named),
    }


seen = {}
play()
seen["generate"] = both(HELLO)
seen["length"] = both(HELLO, max_tokens=2)
play(cached_tokens=2)
seen["cached"] = both(HELLO)
play(say={"reasoning": "let me think", "text": "it is four"})
seen["reasoning"] = both(HELLO)
play(say={"calls": [BERLIN]})
seen["tools"] = both(HELLO, tools=[WEATHER])
play(say={"text": "I will look.", "calls": [BERLIN, PARIS]})
seen["parallel tools"] = both(HELLO, tools=[WEATHER])
play(say={"text": '{"answer": 4}'})
seen["schema"] = both(HELLO, schema=SCHEMA)
play()
seen["vision"] = both([("user", "What is this?")], picture=PICTURE)
play(say={"reasoning": "think first", "calls": [BERLIN, PARIS]})
first = tried(judge.raw, HELLO, tools=[WEATHER])
play()
seen["tool results"] = tried(judge.answer_calls, HELLO, first, ["sunny", "rainy"], tools=[WEATHER])
seen["embed"] = tried(judge.embed, ["one", "twenty"])
seen["models"] = tried(judge.models)
errors = {"wrong key": None}
for name in ["rate_limited", "invalid", "server", "overloaded", "context_length", "out_of_credit", "not_found"]:
    play(error=name, retry_after=7) if name == "rate_limited" else play(error=name)
    errors[name] = {
        "whole": tried(judge.ask, HELLO, stream=False),
        "stream": tried(judge.ask, HELLO, stream=True),
    }
play()
errors["wrong key"] = tried(judge.stranger, HELLO)
errors["unknown model"] = tried(judge.ask, HELLO, model="nothing-like-it")
seen["errors"] = errors
for name in ["error_with200", "no_done"]:
    play(garbage=name)
    seen[name] = tried(judge.ask, HELLO, stream=True)
play(cut_after_bytes=400)
seen["cut"] = tried(judge.ask, HELLO, stream=True)
for name in ["crlf", "comments", "no_final_newline", "byte_by_byte", "damaged_frame"]:
    play(garbage=name)
    seen[name] = tried(judge.ask, HELLO, stream=True)
print(json.dumps(seen))
