"""What the unmodified OpenAI SDK hears and says, as one JSON object for the test that started this.

    python audio_sdk.py BASE_URL KEY [break-off]

The server is the product or the scripted provider: both have to come to the same. With `break-off` speech is begun and left.
"""

import base64
import hashlib
import json
import struct
import sys

import openai

base_url, key = sys.argv[1:3]
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60)


def wav(seconds):
    """Noise of one channel, 16 bits, 24,000 a second."""
    rate = 48_000
    data = hashlib.shake_256(b"noise").digest(int(seconds * rate))
    form = struct.pack("<HHIIHH", 1, 1, rate // 2, rate, 2, 16)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def fnv1a(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state


def failed(call):
    """The exception's class and what it says."""
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.param]
    return None


short = wav(1.0)
file = ("Gruß.wav", short, "audio/wav")
hear, speak = client.audio.transcriptions.create, client.audio.speech.create
said = {"input": "Hello from the SDK", "voice": "alloy"}
if "break-off" in sys.argv:
    with client.audio.speech.with_streaming_response.create(model="tts-1", **said) as answer:
        print(json.dumps(len(next(answer.iter_bytes(64)))))
    sys.exit()

seen = {"hash": f"{len(short)} B #{fnv1a(short):016x}"}
plain = hear(model="whisper-1", file=file, language="de", prompt="Hybrid LLM", temperature=0.2)
seen["plain"] = {"text": plain.text, "usage": plain.usage.model_dump(), "extra": plain.model_extra}
seen["text"] = hear(model="whisper-1", file=file, response_format="text")
seen["srt"] = hear(model="whisper-1", file=file, response_format="srt")
verbose = hear(
    model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
)
seen["verbose"] = {
    "text": verbose.text,
    "language": verbose.language,
    "duration": float(verbose.duration),
    "segments": [[one.id, one.start, one.end, one.avg_logprob] for one in verbose.segments],
    "words": [[one.word, one.start, one.end] for one in verbose.words],
}
tokens = hear(model="gpt-4o-mini-transcribe", file=file, include=["logprobs"])
seen["tokens"] = {
    "text": tokens.text,
    "usage": tokens.usage.model_dump(),
    "logprobs": [one.logprob for one in tokens.logprobs],
    "extra": tokens.model_extra,
}
events = list(hear(model="gpt-4o-mini-transcribe", file=file, stream=True))
seen["stream"] = {
    "kinds": sorted({one.type for one in events}),
    "deltas": "".join(one.delta for one in events if one.type == "transcript.text.delta"),
    "pieces": len(events) - 1,
    "text": events[-1].text,
    "usage": events[-1].usage.model_dump(),
}
seen["english"] = client.audio.translations.create(model="whisper-1", file=file).text

audio = speak(model="tts-1", response_format="wav", speed=1.5, **said)
seen["speech"] = {
    "bytes": len(audio.content),
    "sha256": hashlib.sha256(audio.content).hexdigest(),
    "type": audio.response.headers["content-type"],
}
with client.audio.speech.with_streaming_response.create(model="tts-1", response_format="wav", **said) as answer:
    seen["streamed speech"] = hashlib.sha256(b"".join(answer.iter_bytes())).hexdigest()
answer = speak(model="gpt-4o-mini-tts", instructions="whisper", stream_format="sse", **said)
events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
audio = b"".join(base64.b64decode(one["audio"]) for one in events if one["type"] == "speech.audio.delta")
seen["speech events"] = {
    "sha256": hashlib.sha256(audio).hexdigest(),
    "last": events[-1]["type"],
    "usage": events[-1]["usage"],
}
answer = speak(model="gpt-4o-mini-tts", **said)
seen["speech of events"] = hashlib.sha256(answer.content).hexdigest()

# larger than a message between services should be, and larger than one may be
longer, long = wav(20.0), wav(200.0)
heard = hear(model="whisper-1", file=("longer.wav", longer))
seen["longer"] = [heard.text, f"heard {len(longer)} B #{fnv1a(longer):016x}"]
heard = hear(model="whisper-1", file=("long.wav", long))
seen["long"] = [heard.text, f"heard {len(long)} B #"]
seen["errors"] = {
    "too large": failed(lambda: hear(model="whisper-1", file=("a.wav", bytes(26_214_401))))[:2],
    "format": failed(lambda: hear(model="whisper-1", file=file, response_format="pdf"))[:2],
    "no timestamps": failed(lambda: hear(model="gpt-4o-mini-transcribe", file=file, response_format="srt"))[1],
    "speed": failed(lambda: speak(model="tts-1", input="hello", voice="alloy", speed=9))[:2],
    "model": failed(lambda: speak(model="nobody", input="hello", voice="alloy"))[1],
}
print(json.dumps(seen))
