"""ClickHouse's engine (chdb) with the part of its HTTP interface that the Collector's exporter uses.

    python clickhouse_server.py PORT FOLDER

A separate process, because a process can have only one engine. The exporter's driver requests the server's name,
describes the table and inserts blocks in the format Native, which the engine reads unchanged. The server reports
revision 0, so that blocks have no fields of newer revisions; the driver reads only the first answer in its own revision.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from chdb.session import Session

_BLOCK_INFO = b"\x01\x00\x02" + struct.pack("<i", -1) + b"\x00"


def _text(value: str) -> bytes:
    encoded = value.encode()
    assert len(encoded) < 128, "a length of one byte"
    return bytes([len(encoded)]) + encoded


def _hello() -> bytes:
    columns = [
        ("displayName()", "String", _text("chdb")),
        ("version()", "String", _text("26.9.0")),
        ("revision()", "UInt32", struct.pack("<I", 0)),
        ("timezone()", "String", _text("UTC")),
    ]
    plain = b"\x00"
    return _BLOCK_INFO + bytes([len(columns), 1]) + b"".join(_text(n) + _text(t) + plain + v for n, t, v in columns)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    session: Session

    def do_GET(self) -> None:
        self._answer(b"Ok.\n")

    def do_POST(self) -> None:
        body = (
            self.rfile.read(int(self.headers["content-length"])) if "content-length" in self.headers else self._chunks()
        )
        parameters = parse_qs(urlsplit(self.path).query)
        query = parameters["query"][0] if "query" in parameters else body.decode()
        try:
            self._answer(self._run(query.strip(), body, parameters.get("default_format", ["TabSeparated"])[0]))
        except Exception as error:  # noqa: BLE001 - the engine raises plain exceptions
            self._answer(str(error).encode(), 500)

    def _run(self, query: str, body: bytes, form: str) -> bytes:
        if "displayName()" in query:
            return _hello()
        if not query.upper().startswith("INSERT"):
            return bytes(self.session.query(query, form).bytes() or b"")
        target = query[: query.upper().rindex("FORMAT")] if "FORMAT" in query.upper() else query
        with tempfile.NamedTemporaryFile(suffix=".native") as block:
            block.write(body)
            block.flush()
            self.session.query(f"{target} SELECT * FROM file('{block.name}', Native)")
        return b""

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log."""


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    _Handler.session = Session(str(folder))
    HTTPServer(("127.0.0.1", port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
