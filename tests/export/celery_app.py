"""A Celery application whose tasks make one span each and say so on stdout; its broker is a directory.

Environment: BROKER, SPOOL, URL.
"""

from __future__ import annotations

import os

from celery import Celery
from opentelemetry.sdk.trace import TracerProvider
from tests.export.span_program import configure, make

DIRECTORY = os.environ["BROKER"]
app = Celery(
    "celery_app",
    broker="filesystem://",
    broker_transport_options={
        "data_folder_in": DIRECTORY,
        "data_folder_out": DIRECTORY,
        "control_folder": f"{DIRECTORY}-control",
    },
    worker_prefetch_multiplier=1,
)
PROVIDER: TracerProvider = configure(os.environ["URL"], os.environ["SPOOL"])


@app.task
def work(number: int) -> None:
    make(PROVIDER, number, 1)
    os.write(1, b"made\n")
