"""Snowflake's SQL API (``POST /api/v2/statements``) before fakesnow, for tests: ``python server.py PORT``.

fakesnow executes Snowflake's SQL in DuckDB. Its own server has another API: that of Snowflake's drivers.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import fakesnow
import snowflake.connector


class Handler(BaseHTTPRequestHandler):
    """Executes each statement in the database and schema that the request names."""

    database: Any

    def do_GET(self) -> None:
        """Answer that the server runs."""
        self.answer(200, {})

    def do_POST(self) -> None:
        """Execute the statement of the request with its bindings."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        binds = [bind["value"] for _, bind in sorted(body.get("bindings", {}).items(), key=lambda pair: int(pair[0]))]
        cursor = self.database.cursor()
        for kind, name in (("DATABASE", body["database"]), ("SCHEMA", f"{body['database']}.{body['schema']}")):
            cursor.execute(f"CREATE {kind} IF NOT EXISTS {name}")
            cursor.execute(f"USE {kind} {name}")
        try:
            cursor.execute(body["statement"], binds or None)
        except snowflake.connector.errors.ProgrammingError as error:
            self.answer(422, {"code": f"{error.errno:06}", "sqlState": error.sqlstate, "message": error.msg})
            return
        rows = [[None if value is None else str(value) for value in row] for row in cursor.fetchall()]
        self.answer(200, {"code": "090001", "sqlState": "00000", "statementHandle": "01b-1", "data": rows})

    def answer(self, status: int, answer: dict[str, Any]) -> None:
        """Send ``answer`` as JSON."""
        encoded = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    with fakesnow.patch():
        snowflake.connector.paramstyle = "qmark"
        Handler.database = snowflake.connector.connect()
        HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
