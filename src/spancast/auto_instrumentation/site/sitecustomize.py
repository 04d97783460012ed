"""Run by Python at start-up when ``spancast run`` put this folder on PYTHONPATH."""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _run_the_one_behind() -> None:
    # Only one sitecustomize is imported; the environment's own must still run.
    paths = [path for path in sys.path if os.path.abspath(path or os.getcwd()) != _here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_the_one_behind()

import spancast.auto_instrumentation  # noqa: E402

spancast.auto_instrumentation.start()
