"""Queries for values. They are planned once, refused before anything is read, and run within limits on time and concurrency."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr.queries import query_named
from cubeport.cubes.forms import Answer, Form, Room
from cubeport.documents.texts import PublishedView
from cubeport.errors import Cancelled, Unavailable
from cubeport.service import plans
from cubeport.service.plans import MIB, AnswerLimits, CubeQuery, QueryPlan
from cubeport.service.ports import Encoders, Versions, Way

LIGHT_CELLS = 65_536
"""Answers with at most this many cells do not wait for a place for heavy work."""
_LIGHT_CHUNKS = 64
"""They must also decode at most this many chunks."""
_LARGE_GRID = 1 << 20
"""For a grid without straight axes and with more positions than this, planning also waits for a place, because it checks all of
them."""
_SMALL = 1 << 16
"""Answers up to this size in bytes do not need a file."""
_MANY_POINTS = 20
"""With more points than this, planning also waits for a place, because each point is searched separately."""
_TELLING = 1 << 14
"""Estimates learn from answers of at least this size in bytes."""
_MOST_RUNS = 1_000
"""An estimate lists at most this many runs of indices along one dimension."""
_LEARNT = 4_096
"""How many actual sizes are kept to improve later estimates for the same fields."""


class AnswerDeadline:
    """A deadline in seconds, which also ends when the client disconnects."""

    def __init__(self, seconds: float, left: threading.Event | None = None) -> None:
        self._until = time.monotonic() + seconds
        self._left = left

    def __call__(self) -> None:
        """Raise Cancelled if the client has disconnected, or Unavailable if the time is up."""
        if self._left is not None and self._left.is_set():
            raise Cancelled("The client has closed the connection.")
        if time.monotonic() > self._until:
            raise Unavailable("The answer takes too long.", retry_after_s=5, next_step="Request less, or read the Zarr store.")


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer with its final plan."""

    plan: QueryPlan
    content: Answer


def no_place() -> Unavailable:
    """Return the error for a query that did not get a place."""
    return Unavailable("Other large answers are being made.", retry_after_s=5, next_step="Try again in a few seconds.")


class Queries:
    """Makes plans and runs them. A process has one."""

    def __init__(
        self,
        versions: Versions,
        encoders: Encoders,
        room: Room,
        way: Way,
        *,
        public_url: str,
        limits: AnswerLimits | None = None,
    ) -> None:
        self.limits = limits or AnswerLimits()
        self.public_url = public_url
        self.versions = versions
        self._encoders = encoders
        self._room = room
        self._way = way
        self._places = threading.BoundedSemaphore(self.limits.heavy)
        self._rates: dict[str, float] = {}
        """The decoded bytes per second of recent answers, by form."""
        self._true_sizes: dict[tuple[str, ...], float] = {}
        """The ratio of actual and estimated size, by the fields of a version."""

    def plan(self, shown: PublishedView, query: CubeQuery, *, placed: bool = False) -> QueryPlan:
        """Return the plan, refused or not. Only coordinates are read, once for each version. Raises as ``plans.plan``.

        Parameters
        ----------
        placed
            Whether the caller already has a place from :meth:`try_place`, which :meth:`large` queries need.
        """
        with self.place() if self.large(shown, query) and not placed else nullcontext():
            opened = self.versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
            return plans.plan(shown, query, opened, self._encoders.of(query.form), self.limits, public_url=self.public_url)

    def check(self, plan: QueryPlan) -> None:
        """Raise TooLarge with alternatives if the plan exceeds a limit."""
        plans.check(plan, self._encoders, self.limits)

    def final(self, plan: QueryPlan, *, placed: bool = False) -> QueryPlan:
        """Return the plan that an answer would have: of a large region, with the chunks and cells of the region alone.

        Raises Unavailable if this takes too long, or if there is no place for it and the caller has none (*placed*).
        """
        if plan.settled or plan.refusal is not None:
            return plan
        with nullcontext() if placed else self.place():
            return plans.settled(plan, self.limits, AnswerDeadline(self.limits.seconds))

    def estimate(self, plan: QueryPlan, *, placed: bool = False) -> dict[str, Any]:
        """Return the cost of the answer. No values are read. Raises Unavailable as :meth:`final`."""
        plan = self.final(plan, placed=placed)
        cost, over = plan.part.cost, plan.refusal
        return {
            "cells": cost.cells if plan.form.stored else cost.written,
            "bytes": self.size(plan),
            "chunks": cost.chunks,
            "seconds": round(0.005 + cost.bytes / self._rates.get(plan.form.name, 20e6), 3),
            "format": plan.form.name,
            "allowed": over is None,
            "limit": None if over is None else {"setting": over.setting, "limit": over.limit},
            "alternatives": plans.alternatives(plan, self._encoders, self.limits) if over is not None else [],
            "windows": {
                name: [[run.start, run.stop, run.shift] for run in plan.part.runs(window)]
                for name, window in plan.part.windows.along.items()
                if len(window.runs) <= _MOST_RUNS
            },
            "dropped": sorted(plan.part.dropped),
            "hides": plan.part.windows.mask is not None,  # some of the cells in these windows
        }

    def size(self, plan: QueryPlan) -> int:
        """Return the estimated size of the answer in bytes. Metadata do not show how much is missing, so earlier answers are used
        too.
        """
        return round(plan.encoder.size(plan.part) * self._true_sizes.get(_kind_of(plan), 1.0))

    def answer(self, plan: QueryPlan, *, left: threading.Event | None = None, placed: bool = False) -> Answered:
        """Return the answer with its final plan.

        Parameters
        ----------
        left
            Set when the client disconnects, which stops the work.
        placed
            Whether the caller already has a place from :meth:`try_place`.

        Raises
        ------
        TooLarge, Unavailable, Cancelled, NoSpace
            As :meth:`check`; if there is no place or no time left; if the client disconnected; if there is no space for a file.
        """
        self.check(plan)
        query = plan.query
        deadline = AnswerDeadline(self.limits.seconds * (query.form.seconds if query.download else 1), left)
        with self.place() if self.heavy(plan) and not placed else nullcontext():
            began = time.perf_counter()
            plan = plans.settled(plan, self.limits, deadline)
            self.check(plan)
            make = partial(self._made, plan, deadline)
            if query.download:
                content = make()
            elif query.place is None:
                content = self._way.coverage(plan.name, make, form=query.form)
            else:
                own = {name for name, _ in query.place.given} | {"bbox"}
                where = {name: value for name, value in query.parameters() if name in own}
                content = self._way.edr(plan.name, make, kind=query.place.kind, where=where, form=query.form)
            self._learn(query.form, plan.part.cost.bytes, time.perf_counter() - began)
        return Answered(plan, content)

    def hold(self, content: bytes) -> Answer:
        """Return the answer to send. A large answer is stored in the room of answers, which limits the data that slow clients have
        not received.

        Raises
        ------
        NoSpace
            If answers that are being sent leave no space.
        """
        return content if len(content) <= _SMALL else self._room.hold(content)

    def _made(self, plan: QueryPlan, deadline: AnswerDeadline) -> Answer:
        answer = plan.encoder.encode(plan.part, self._room, deadline)
        # Nothing can be learnt from small answers, which are mostly their frame, and from masked ones, which are mostly missing.
        if isinstance(answer, bytes) and len(answer) > _TELLING and plan.part.windows.mask is None:
            if len(self._true_sizes) >= _LEARNT:
                self._true_sizes.clear()
            self._true_sizes[_kind_of(plan)] = len(answer) / max(1, plan.encoder.size(plan.part))
        return answer

    def heavy(self, plan: QueryPlan) -> bool:
        """Return whether the plan needs a place among the heavy ones."""
        return plan.part.cost.cells > LIGHT_CELLS or plan.part.cost.chunks > _LIGHT_CHUNKS

    def large(self, shown: PublishedView, query: CubeQuery) -> bool:
        """Return whether planning is heavy work too, because there are many points, or many positions that must all be checked."""
        place = query.place
        if (
            place is not None
            and query_named(place.kind).at_points
            and any(each.count(",") >= _MANY_POINTS for _, each in place.given)
        ):
            return True
        description: CubeDescription = shown.description
        spatial = description.spatial
        if spatial.family not in ("curvilinear", "unstructured") or spatial.x is None:
            return False
        return math.prod(description.variable(spatial.x).shape) > _LARGE_GRID

    def try_place(self) -> bool:
        """Take a place for heavy work if one is free. There are as many as cores. :meth:`leave_place` gives it back."""
        return self._places.acquire(blocking=False)

    def leave_place(self) -> None:
        """Give a place back."""
        self._places.release()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for heavy work during the block. Raises Unavailable if none becomes free in ``limits.wait_s``."""
        if not self._places.acquire(timeout=self.limits.wait_s):
            raise no_place()
        try:
            yield
        finally:
            self._places.release()

    def _learn(self, form: Form, size: int, seconds: float) -> None:
        if size > MIB:
            self._rates[form.name] = 0.7 * self._rates.get(form.name, 20e6) + 0.3 * size / max(seconds, 1e-3)


def _kind_of(plan: QueryPlan) -> tuple[str, ...]:
    return (plan.shown.version.version_id, plan.form.name, *plan.part.windows.fields)
