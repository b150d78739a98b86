"""Encoders: raw content of items and users to vectors, by pretrained models.

Needs the libraries of ``fusionops[encoders]``, each where it is used.
"""

from fusionops.models.encoders.adaptation import Adaptation
from fusionops.models.encoders.base import Encoder, Unreadable
from fusionops.models.encoders.encoding import encode
from fusionops.models.encoders.loading import load_encoder

__all__ = ["Adaptation", "Encoder", "Unreadable", "encode", "load_encoder"]
