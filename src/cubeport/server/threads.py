"""Threads of their own for work of a request that may take long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context


async def run_in[T](pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Return the result of *work* from a thread of *pool*, where the caller is that of this request.

    ``run_in_executor`` alone would leave the viewer behind, and work without a viewer sees everything.
    """
    return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)
