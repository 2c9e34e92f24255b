"""Answers through pygeoapi (``service.ports.Way``). pygeoapi is imported for the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cubeport.cubes.forms import Answer, Form


class Pygeoapi:
    """Calls pygeoapi's own API functions, which call our provider."""

    def coverage(self, name: str, make: Callable[[], Answer], *, form: Form) -> Answer:
        """Return the result of *make*, called through ``get_collection_coverage``."""
        from cubeport.adapters.ogc import api

        answer: Answer = api.coverage(name, make, form=form.name, media_type=form.media_type)
        return answer

    def edr(self, name: str, make: Callable[[], Answer], *, kind: str, where: Mapping[str, str], form: Form) -> Answer:
        """Return the result of *make*, called through ``get_collection_edr_query``."""
        from cubeport.adapters.ogc import api

        answer: Answer = api.edr(name, make, kind=kind, where=where, form=form.name, media_type=form.media_type)
        return answer
