"""Answers that are very large: one of many megabytes, and a stream of very many chunks, without and with spancast.

Each call is made in a process of its own, so that its largest memory is known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import openai

import spancast

_PIECE: Final = "word "
_BLOCK: Final = 1_000
"""Number of chunks that are sent at once."""
_TIMEOUT_S: Final = 900
_FLUSH_S: Final = 300.0


class Measured(NamedTuple):
    """One call: the memory it took at most, and the processor time of its thread."""

    most_bytes: int
    call_s: float
    arrived: bool


def whole(text_bytes: int) -> Iterator[bytes]:
    """Yield an answer with a text of ``text_bytes``."""
    yield b'{"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,'
    yield b' "finish_reason": "stop", "message": {"role": "assistant", "content": "'
    piece = _PIECE.encode() * 200_000
    for _ in range(max(text_bytes // len(piece), 1)):
        yield piece
    yield b'"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}'


def stream(chunks: int) -> Iterator[bytes]:
    """Yield a stream of ``chunks`` events with a text."""

    def event(delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    yield event({"role": "assistant", "content": ""})
    block = b"".join(event({"content": f"{_PIECE}{number % 10} "}) for number in range(_BLOCK))
    for _ in range(max(chunks // _BLOCK, 1)):
        yield block
    yield event({}, "stop") + b"data: [DONE]\n\n"


@contextmanager
def served(kind: str, size: int) -> Iterator[str]:
    """Serve answers of ``kind`` and ``size``; yield the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Print nothing."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/json" if kind == "whole" else "text/event-stream")
            self.end_headers()
            for piece in whole(size) if kind == "whole" else stream(size):
                self.wfile.write(piece)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def measure(kind: str, way: str, size: int, folder: Path) -> Measured:
    """Make one call in a process of its own; ``way`` is ``bare`` or ``traced``."""
    with served(kind, size) as url:
        command = [sys.executable, "-m", "tests.attacks.large", kind, way, url, str(folder)]
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, cwd=Path(__file__).parents[2],
            env={**os.environ, "XDG_STATE_HOME": str(folder)},
        )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    return Measured(*json.loads(run.stdout))


def _most_bytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10


def _call(kind: str, way: str, url: str, folder: str) -> None:
    import time

    if way == "traced":
        spancast.configure(
            spool={"path": f"{folder}/spool"}, destinations={"one": {"type": "file", "path": f"{folder}/out.jsonl"}}
        )
        spancast.instrument()
    client = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _most_bytes(), time.thread_time()
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    if kind == "whole":
        client.chat.completions.create(**asked)
    elif kind == "chunks":
        for _ in client.chat.completions.create(**asked, stream=True):
            pass
    else:
        with client.chat.completions.with_streaming_response.create(**asked, stream=True) as raw:
            for _ in raw.iter_lines():
                pass
    took_s = time.thread_time() - started
    arrived = way == "bare" or (bool(spancast.flush(_FLUSH_S)) and Path(folder, "out.jsonl").stat().st_size > 0)
    sys.stdout.write(json.dumps([_most_bytes() - before, took_s, arrived]))


if __name__ == "__main__":
    _call(*sys.argv[1:])
