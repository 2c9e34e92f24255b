"""The executor on a Dask cluster. It imports ``distributed`` when it is first used, and never starts a scheduler or a worker.

Which worker does what, in which order, and again after a worker was lost, is decided by the scheduler of Dask.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cubeport.adapters.executors.worker import make
from cubeport.errors import ExecutorUnavailable, ExtraMissing

if TYPE_CHECKING:
    from distributed import Client, Future

ANSWERS_S = 5.0
"""How long the scheduler may take to answer."""
_ASKED_S = 2.0
"""How often it is asked while units are made, and how long an answer is kept for ``/ready``."""
_BEAT_S = 0.25
"""How often the caller is asked whether it still wants the units."""
_LOOK_S = 0.02
"""How often this process looks at what it knows of the units; no message is sent for that."""
_QUIET_S = 10.0
"""How long units that are not wanted any more may take to end, before the folder in which they write is removed."""
_UNSEEN_S = 2.0
"""The same if nothing can be heard of them. A worker looks twice a second whether its unit is wanted."""
_SHORTEST_S = 1.0
"""The least time that the scheduler has for an answer."""
_AGAIN = 2
"""How often Dask repeats a unit after an error of the worker's machine. A unit whose worker dies is repeated by Dask's own rule."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a scheduler says of its workers."""

    workers: int
    threads: int


@dataclass
class DaskExecutor:
    """Runs orders on the workers of the scheduler at *address*. It is thread-safe.

    Parameters
    ----------
    address
        ``tcp://HOST:PORT`` or ``tls://HOST:PORT``. Certificates are those of Dask's own configuration.
    wait_s
        How long to wait for a scheduler that does not answer or has no worker, before and while units are made.
    """

    address: str
    wait_s: float
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: tuple[float, Cluster | ExecutorUnavailable] | None = None

    def state(self, seconds: float = ANSWERS_S) -> Cluster:
        """Return what the scheduler says, at most :data:`_ASKED_S` old. It has *seconds* to answer, a second at least.

        Raises
        ------
        ExecutorUnavailable
            If it does not answer.
        ExtraMissing
            If ``distributed`` is not installed.
        """
        if find_spec("distributed") is None:
            words = "jobs.executor is dask, and the package distributed is not installed"
            raise ExtraMissing(words, next_step="pip install 'cubeport[dask]'", what="dask")
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _ASKED_S:
                said = self._ask(min(max(seconds, _SHORTEST_S), ANSWERS_S))
                self._known = time.monotonic(), said  # from now on: to wait for no answer takes longer than it is kept
            found = self._known[1]
        if isinstance(found, ExecutorUnavailable):
            raise found
        return found

    def check(self, seconds: float = ANSWERS_S) -> Cluster:
        """Return what the scheduler says within *seconds*. Raises ExecutorUnavailable if it says nothing, or has no workers."""
        found = self.state(seconds)
        if not found.workers:
            raise self._no_workers()
        return found

    def width(self) -> int:
        """Return how many orders the workers do at the same time; 1 if the scheduler does not say."""
        try:
            return max(1, self.state(min(ANSWERS_S, self.wait_s)).threads)
        except ExecutorUnavailable:
            return 1  # those who run orders wait for it, and report it

    def run(
        self,
        orders: Sequence[Mapping[str, Any]],
        *,
        progress: Callable[[Collection[int]], None],
        stop: Callable[[], None],
    ) -> list[Mapping[str, Any]]:
        """Return the answers of the orders; see :class:`cubeport.adapters.gate.divided.Executor`."""
        with self._client(lambda: progress(())) as client:
            futures = [client.submit(make, order, pure=False, retries=_AGAIN) for order in orders]
            try:
                return self._answers(client, futures, progress)
            finally:
                if not _have_ended(futures):
                    stop()
                    _until(lambda: _have_ended(futures), _QUIET_S if self._is_there(_SHORTEST_S) else _UNSEEN_S)

    def _answers(
        self, client: Client, futures: Sequence[Future[Any]], progress: Callable[[Collection[int]], None]
    ) -> list[Mapping[str, Any]]:
        """Return the answers of all orders, or of those up to the first error. An earlier order may end after a later one."""
        answers: dict[int, Mapping[str, Any]] = {}
        patience = _Patience(self)
        wanted = len(futures)
        while waiting := [number for number in range(wanted) if number not in answers]:
            for number in waiting:
                if (answer := self._answer(futures[number])) is not None:
                    answers[number] = answer
                    wanted = min(wanted, number + 1) if "error" in answer else wanted
            progress(answers.keys())
            patience.use(client.status)
            _until(lambda: any(futures[each].status != "pending" for each in waiting if each not in answers), _BEAT_S)
        return [answers[number] for number in range(wanted)]

    def _answer(self, future: Future[Any]) -> Mapping[str, Any] | None:
        """Return the answer if the order is done. Raises ExecutorUnavailable if the cluster could not do it.

        An order is ``lost`` if its worker died with the answer; the scheduler has it done again.
        """
        match future.status:
            case "finished":
                try:
                    answer: Mapping[str, Any] = future.result(timeout=ANSWERS_S)
                except TimeoutError:
                    return None  # its worker has died since, so the order is done again
                return answer
            case "error":
                error = future.exception(timeout=ANSWERS_S)
                words = f"The workers of {self.address} could not do a unit: {type(error).__name__}: {str(error)[:300]}"
                raise ExecutorUnavailable(words, next_step="look at the log of the worker, then try again")
            case "cancelled":
                raise ExecutorUnavailable(f"The scheduler {self.address} has lost the units.", next_step="try again")
        return None

    @contextmanager
    def _client(self, beat: Callable[[], None]) -> Iterator[Client]:
        """Connect for the duration of the block. *beat* is called while it waits, and may raise."""
        from distributed import Client

        deadline = time.monotonic() + self.wait_s

        def is_there() -> bool:
            beat()
            return self._is_there(deadline - time.monotonic())

        _until(is_there, self.wait_s)
        self.state(_SHORTEST_S)
        try:
            # Not the default of this process: xarray must not send its own work there.
            client = Client(self.address, timeout=ANSWERS_S, set_as_default=False, name="cubeport")
        except (OSError, TimeoutError) as error:
            raise self._silent() from error
        try:
            yield client
        finally:
            client.close(timeout=ANSWERS_S)

    def _is_there(self, seconds: float) -> bool:
        try:
            self.state(seconds)
        except ExecutorUnavailable:
            return False
        return True

    def _ask(self, seconds: float) -> Cluster | ExecutorUnavailable:
        async def ask() -> Mapping[str, Any]:
            from distributed import rpc
            from distributed.security import Security

            scheduler = rpc(self.address, timeout=seconds, connection_args=Security().get_connection_args("client"))
            try:
                said: Mapping[str, Any] = await asyncio.wait_for(scheduler.identity(n_workers=0), seconds)
                return said
            finally:
                await scheduler.close_rpc()

        try:
            said = asyncio.run(ask())
        except (OSError, TimeoutError, ValueError, TypeError):
            return self._silent()
        return Cluster(said["n_workers"], said["total_threads"])

    def _silent(self) -> ExecutorUnavailable:
        words = f"The Dask scheduler {self.address} does not answer."
        return ExecutorUnavailable(words, next_step="start it, or set jobs.executor to local")

    def _no_workers(self) -> ExecutorUnavailable:
        words = f"The Dask scheduler {self.address} has no workers."
        return ExecutorUnavailable(words, next_step=f"dask worker {self.address}, or set jobs.executor to local")


def _have_ended(futures: Sequence[Future[Any]]) -> bool:
    """Return whether no worker is at work. A unit is ``cancelled`` when its scheduler died, and its worker does not know that."""
    return all(each.status in ("finished", "error") for each in futures)


def _until(is_so: Callable[[], bool], seconds: float) -> None:
    """Wait until *is_so*, but not longer than *seconds*."""
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(_LOOK_S)


@dataclass
class _Patience:
    """How long the cluster has been of no use."""

    executor: DaskExecutor
    _good: float = field(default_factory=time.monotonic)

    def use(self, status: str) -> None:
        """Look at the cluster. Raises ExecutorUnavailable if it has not answered, or has had no workers, for too long."""
        wait_s = self.executor.wait_s
        try:
            self.executor.check(self._good + wait_s - time.monotonic())
            if status == "running":
                self._good = time.monotonic()
        except ExecutorUnavailable:
            if time.monotonic() - self._good > wait_s:
                raise
        if time.monotonic() - self._good > wait_s:
            raise self.executor._silent()  # noqa: SLF001 - one concept in two classes
