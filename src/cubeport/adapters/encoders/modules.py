"""Find encoders by module name. A module is imported for the first answer in its form."""

from __future__ import annotations

from importlib import import_module

from cubeport.cubes.forms import Encoder, Form


class EncoderModules:
    """The modules of this package, as the port ``service.ports.Encoders``."""

    def of(self, form: Form) -> Encoder:
        """Return the encoder of *form*."""
        found = import_module(f"cubeport.adapters.encoders.{form.encoder}").ENCODER
        assert isinstance(found, Encoder)  # the module that a form names has an encoder
        return found
