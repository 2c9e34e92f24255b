"""Encoders by the file that has them: imported at the first answer of their form."""

from __future__ import annotations

from importlib import import_module

from cubeport.cubes.forms import Encoder, Form


class EncoderModules:
    """The files next to this one, as the service asks for them (``service.ports.Encoders``)."""

    def of(self, form: Form) -> Encoder:
        """Return the encoder of *form*."""
        found = import_module(f"cubeport.adapters.encoders.{form.encoder}").ENCODER
        assert isinstance(found, Encoder)  # what a form's line names is an encoder
        return found
