"""A cubeport service, as seen from Python on another machine."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence

from cubeport.client._http import HttpSession
from cubeport.client.dataset import Dataset
from cubeport.errors import NotFound


class Port:
    """A cubeport service at an address. Creating it makes no request.

    >>> port = Port("https://data.example.org")
    >>> port
    <cubeport.Port https://data.example.org>
    """

    def __init__(self, url: str, *, key: str | None = None) -> None:
        """Name the service at *url*. If the service needs a key, *key* or else ``CUBEPORT_KEY`` is sent."""
        self._session = HttpSession(url, key=key or os.environ.get("CUBEPORT_KEY"))

    def __repr__(self) -> str:
        return f"<cubeport.Port {self._session.url}>"

    def search(
        self,
        text: str | None = None,
        *,
        box: Sequence[float] | None = None,
        time: str | None = None,
        variable: str | None = None,
    ) -> Iterator[Dataset]:
        """Yield the matching published datasets, ordered by id. Further pages are requested when you need them.

        Parameters
        ----------
        text
            Words in the title, description, keywords or id.
        box
            West, south, east, north in degrees (CRS84); west > east crosses the antimeridian.
        time
            An RFC 3339 instant, or an interval ``a/b`` with ``..`` for an open end.
        variable
            The name of a variable.
        """
        asked = {"q": text, "bbox": _numbers(box), "datetime": time, "variable": variable}
        cursor: str | None = None
        while True:
            page = self._session.json("/datasets", **asked, cursor=cursor, limit=100)
            for summary in page["items"]:
                yield Dataset(self._session, summary["dataset_id"], summary)
            following = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
            if following is None:
                return
            cursor = following.rpartition("cursor=")[2].partition("&")[0]

    def __iter__(self) -> Iterator[Dataset]:
        return self.search()

    def __getitem__(self, ref: str) -> Dataset:
        """Return the dataset ``id``, or one state of it, ``id@tag`` or ``id@version``.

        Raises
        ------
        NotFound
            If there is none; the error lists the most similar ids.
        """
        try:
            return Dataset(self._session, ref, self._session.json(f"/datasets/{ref}"))
        except NotFound as exc:
            if "@" in ref:
                raise
            near = difflib.get_close_matches(ref, [each.id for each in self.search()], 3)
            if near:
                exc.next_step = f"did you mean {' or '.join(near)}?"
            raise


def _numbers(box: Sequence[float] | None) -> str | None:
    return None if box is None else ",".join(repr(float(each)) for each in box)
