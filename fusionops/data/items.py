"""The table of items."""

from __future__ import annotations

from fusionops.data.entities import Entities


class Items(Entities):
    """The items of a catalogue with their text, numbers, categories and media paths."""
