"""The table of items."""

from __future__ import annotations

from fusionops.data.entities import Entities


class Items(Entities):
    """The items of a catalogue with their text, numbers, categories and media paths."""

    def label(self, code: int) -> str:
        """What a person calls an item: its first text that there is, or its id."""
        for column in self.text.values():
            text = column[code]
            if text:
                return text
        return str(self.ids.ids[code])
