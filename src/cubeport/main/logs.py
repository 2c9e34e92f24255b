"""The format of the server's log, and the notifications for systemd."""

from __future__ import annotations

import json
import logging
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cubeport.settings import Settings


def begin(settings: Settings) -> None:
    """Configure logging to standard error by the settings."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.log.format == "json" else plain)
    logging.basicConfig(level=settings.log.level.upper(), handlers=[handler])
    for chatty in ("uvicorn", "pygeoapi"):  # cubeport logs its own line about where it listens
        logging.getLogger(chatty).setLevel("WARNING")
    # A malformed request gets a problem document. With a log line for each, anybody could fill the log.
    logging.getLogger("uvicorn.error").setLevel("ERROR")


class JsonLines(logging.Formatter):
    """Formats each record as a JSON object on one line: ``time level logger message``, and ``traceback`` for an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


def tell_supervisor(state: str) -> None:
    """Notify systemd of the state, if it started this process: ``READY=1``, ``STOPPING=1`` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendall(state.encode())
