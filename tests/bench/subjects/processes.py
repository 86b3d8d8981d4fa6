"""Processes for the peers: each role is a function in a new interpreter."""

import ctypes
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from app.runtime.placement import parse_cpus
from tests.support.children import die_with_parent

PR_SET_TIMERSLACK = 29

CONTEXT = multiprocessing.get_context("spawn")


class RoleFailed(Exception):
    """A role raised or died; the text has its traceback."""


class Link:
    """Connects a role with the others, through the parent."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def meet(self, value: object = None) -> list[Any]:
        """A barrier: wait for every role; returns the values of all, in the order of the roles."""
        self._pipe.send(("meet", value))
        values: list[Any] = self._pipe.recv()
        return values


@dataclass(frozen=True)
class Role:
    """A function ``(link, *args) -> result`` to run in its own process, on ``cpus`` if given."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    cpus: str = ""


def sharp_timers() -> None:
    """Set the timer slack to 1 ns: the default allows the kernel to wake us 50 us late."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1)


def sleep_until(when_ns: int) -> None:
    """Sleep until a CLOCK_MONOTONIC time; returns at once if it has passed."""
    left_ns = when_ns - time.monotonic_ns()
    if left_ns > 0:
        time.sleep(left_ns / 1e9)


def _child(pipe: Connection, role: Role) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if role.cpus:
            os.sched_setaffinity(0, parse_cpus(role.cpus))
        pipe.send(("done", role.function(Link(pipe), *role.args)))
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))


def run_roles(roles: Sequence[Role], timeout_s: float = 60.0) -> list[Any]:
    """Run every role to its end; returns their results in order.

    Each role calls :meth:`Link.meet` the same number of times.

    Raises:
        RoleFailed: one of them raised or died; the others are killed.
        TimeoutError: they did not finish in time.
    """
    pipes: list[Connection] = []
    children = []
    deadline = time.monotonic() + timeout_s
    try:
        for role in roles:
            ours, theirs = CONTEXT.Pipe()
            child = CONTEXT.Process(target=_child, args=(theirs, role), daemon=True)
            child.start()
            theirs.close()
            pipes.append(ours)
            children.append(child)
        while True:
            kind, values = _round(pipes, deadline)
            if kind == "done":
                return values
            for pipe in pipes:
                pipe.send(values)
    finally:
        for child in children:
            child.join(1.0)
            if child.is_alive():
                child.kill()
                child.join()
        for pipe in pipes:
            pipe.close()


def _round(pipes: list[Connection], deadline: float) -> tuple[str, list[Any]]:
    """Receive one message from each role: all meet, or all are done."""
    answers: dict[Connection, Any] = {}
    kinds = set()
    while waiting := [pipe for pipe in pipes if pipe not in answers]:
        hits = wait(waiting, max(0.0, deadline - time.monotonic()))
        if not hits:
            raise TimeoutError(f"roles {[pipes.index(pipe) for pipe in waiting]} did not answer")
        for pipe in waiting:
            if pipe not in hits:
                continue
            try:
                kind, answers[pipe] = pipe.recv()
            except EOFError:
                raise RoleFailed(f"role {pipes.index(pipe)} died") from None
            if kind == "failed":
                raise RoleFailed(str(answers[pipe]))
            kinds.add(kind)
    if len(kinds) > 1:
        raise RoleFailed("some roles are done while others wait to meet")
    return kinds.pop(), [answers[pipe] for pipe in pipes]
