"""The words that all SDKs' answers are brought into."""


class EndedEarly(Exception):
    """The SDK gave an answer without its end and did not mind; we do."""


def answer(text="", reasoning="", calls=(), finish=None, usage=None):
    """An answer; arguments of calls as objects.

    An SDK may hand out half an answer without a word; then this raises.
    """
    if finish is None:
        raise EndedEarly
    return {"text": text or "", "reasoning": reasoning or "", "calls": list(calls), "finish": finish, "usage": usage}


def used(input, output, cached=None, reasoning=None):
    """Tokens; input with what was cached, output with the reasoning; None where the SDK shows no such number."""
    return {"input": input, "output": output, "cached": cached, "reasoning": reasoning}


def failed(error, code, retry_after=None):
    """An exception's class, and what it says."""
    return {"error": type(error).__name__, "code": code, "retry_after": retry_after}
