"""The table of users."""

from __future__ import annotations

from fusionops.data.entities import Entities


class Users(Entities):
    """The users with their text, numbers, categories and media paths."""
