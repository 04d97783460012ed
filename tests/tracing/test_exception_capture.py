"""Captured exceptions: their text has the lines of Python's own traceback."""

from __future__ import annotations

import gc
import re
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType

import pytest

from spancast.tracing.exception_capture import capture, traceback_text

_LINE = re.compile(r'^  File "(.*)", line (\d+), in (.*)$', re.MULTILINE)


def _fail(*_: object) -> None:
    raise ValueError("no")


def _over_several_lines() -> None:
    _fail(
        1,
        [
            number + 1
            for number in range(3)
        ],
    )  # fmt: skip


def _in_a_handler() -> None:
    try:
        _fail()
    except ValueError as error:
        raise KeyError("yes") from error


def _after_a_loop() -> None:
    for _ in range(3):
        try:
            continue
        finally:
            pass
    raise OSError(f"{1}")


def _in_a_generator() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        _fail()

    sum(numbers())


def _in_a_comprehension() -> None:
    print([_fail(number + 1) for number in range(2)])


def _far_down() -> None:
    exec(compile("\n" * 5_000 + "raise ValueError('far')", "far.py", "exec"), {})


@pytest.mark.parametrize(
    "fails", [_fail, _over_several_lines, _in_a_handler, _after_a_loop, _in_a_generator, _in_a_comprehension, _far_down]
)
def test_traceback_text_has_the_lines_of_python(fails: Callable[[], None]) -> None:
    try:
        fails()
    except Exception as error:  # noqa: BLE001 - of any kind
        text, expected = traceback_text(capture(error)), "".join(traceback.format_exception(error))
    assert _LINE.findall(text) == _LINE.findall(expected)


def test_traceback_text_of_the_same_place_is_the_same() -> None:
    texts: set[str] = set()
    for _ in range(3):
        try:
            _over_several_lines()
        except ValueError as error:
            texts.add(traceback_text(capture(error)))
    assert len(texts) == 1


def test_traceback_of_another_process_has_the_first_line_of_its_code() -> None:
    """A traceback as tblib makes it: a stub that starts at the line, with an instruction of the original code."""
    try:
        exec(compile("1/0", "elsewhere.py", "exec"), {})
    except ZeroDivisionError as error:
        failed = error
    *_, innermost = (frame for frame, _ in traceback.walk_tb(failed.__traceback__))
    failed.__traceback__ = TracebackType(None, innermost, 90_000, 1)
    assert 'File "elsewhere.py", line 1, in' in traceback_text(capture(failed))


def test_captured_exception_keeps_no_objects_of_the_caller_alive() -> None:
    class Held:
        pass

    def fails() -> weakref.ref[Held]:
        held = Held()
        reference = weakref.ref(held)
        try:
            _fail()
        except ValueError as error:
            noted.append(capture(error))
        return reference

    noted: list[object] = []
    reference = fails()
    gc.collect()
    assert noted
    assert reference() is None
    assert sys.exc_info() == (None, None, None)
