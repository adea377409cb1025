"""The asyncio loop on which asyncssh's timers and small tasks run: one for the daemon, made by trio-asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import trio_asyncio

from proxyd.telemetry import Log

Loop = asyncio.AbstractEventLoop


@contextlib.asynccontextmanager
async def asyncio_loop(log: Log) -> AsyncIterator[Loop]:
    """The loop on which asyncssh's timers run, for the length of the block. A fault in one is a line in the log."""
    logging.getLogger("asyncssh").setLevel(logging.CRITICAL)
    async with trio_asyncio.open_loop() as loop:

        def tell(_: Loop, context: dict[str, Any]) -> None:
            # The default would raise in the loop's own nursery, and so end every session.
            log.error(
                "fault in the SSH loop",
                what=str(context.get("message")),
                reason=repr(context.get("exception")),
            )

        loop.set_exception_handler(tell)
        yield loop


def use_loop(loop: Loop) -> None:
    """Let this task, and those that it starts from now on, find the loop. First thing in a session."""
    trio_asyncio.current_loop.set(loop)
