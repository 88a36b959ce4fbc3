#!/usr/bin/env python3
"""Asks over NATS and prints the answer while it is written.

    pip install nats-py nkeys protobuf
    python examples/ask.py "What is 2+2?"
    python examples/ask.py --agent CodeGenerator "Write a queue in Rust"

The contract is proto/llm/v1/*.proto. proto/llm.v1.binpb is the same, compiled, so that no generated code is needed here; with
protoc or buf you would generate classes from the .proto files instead.
"""

import argparse
import asyncio
import os
import pathlib
import sys

import nats
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CONTRACT = pathlib.Path(__file__).parent.parent / "proto" / "llm.v1.binpb"
SEED = "secrets/bus/mainpc/caller.seed"
# Executors send a heartbeat each second.
SILENCE_S = 10

pool = descriptor_pool.DescriptorPool()
for file in descriptor_pb2.FileDescriptorSet.FromString(CONTRACT.read_bytes()).file:
    pool.Add(file)


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"llm.v1.{name}"))


def name_of(enum, number):
    """`local_gpu` for number 2 of `Tier`, whose name in the contract is TIER_LOCAL_GPU."""
    prefix = "".join(f"_{c}" if c.isupper() else c for c in enum).strip("_").upper() + "_"
    full = pool.FindEnumTypeByName(f"llm.v1.{enum}").values_by_number[number].name
    return full.removeprefix(prefix).lower()


def pieces(delta):
    for item in delta.items:
        print(item.text, end="", flush=True)


async def ask(options):
    request = message("GenerateRequest")(model=options.model, stream=True)
    request.messages.add(role="ROLE_USER").content.add(text=options.prompt)
    # Asking under an agent's name and asking as nobody are two subjects; the payload is the same.
    subject = f"llm.v1.agent.{options.agent}.generate" if options.agent else "llm.v1.req.generate"
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else None

    # The bus lets `caller` subscribe to answers under its own inbox only.
    seed = {"nkeys_seed": options.seed} if options.seed else {}
    bus = await nats.connect(options.server, inbox_prefix="_INBOX.caller", **seed)
    try:
        inbox = bus.new_inbox()
        frames = await bus.subscribe(inbox)
        await bus.publish(subject, request.SerializeToString(), reply=inbox, headers=headers)
        while True:
            reply = await frames.next_msg(timeout=SILENCE_S)
            if reply.headers and reply.headers.get("Status") == "503":
                raise SystemExit("nobody answers: is request-coordinator running?")
            frame = message("ReplyFrame").FromString(reply.data)
            match frame.WhichOneof("kind"):
                case "accepted":
                    print(f"why: {'; '.join(frame.accepted.decision.reasons)}", file=sys.stderr)
                case "delta":
                    pieces(frame.delta)
                case "error":
                    raise SystemExit(f"{name_of('ErrorCode', frame.error.code)}: {frame.error.message}")
                case "end":
                    end = frame.end
                    pieces(end.last_delta)
                    print(flush=True)
                    print(
                        f"{end.model} on {name_of('Tier', end.tier)} ({end.deployment}), "
                        f"{end.usage.input} + {end.usage.output} tokens, "
                        f"${end.request_cost_picodollars / 1e12:.6f}, {end.total_ms} ms",
                        file=sys.stderr,
                    )
                    return
    finally:
        await bus.close()


def main():
    parser = argparse.ArgumentParser(description="Ask Hybrid LLM over NATS")
    parser.add_argument("prompt")
    parser.add_argument("--agent", default="", help="an agent of config/agents.toml")
    parser.add_argument("--model", default="", help="alias or model; placement decides without one")
    parser.add_argument("--server", default="nats://127.0.0.1:4222")
    parser.add_argument("--seed", default=SEED if os.path.exists(SEED) else "", help="file with the nkey of a caller")
    parser.add_argument("--key", default=os.environ.get("HYBRID_API_KEY", ""), help="where the coordinator wants one")
    try:
        asyncio.run(ask(parser.parse_args()))
    except nats.errors.TimeoutError:
        raise SystemExit(f"nothing was heard for {SILENCE_S} s") from None
    except nats.errors.Error as error:
        raise SystemExit(f"bus: {error}") from None


if __name__ == "__main__":
    main()
