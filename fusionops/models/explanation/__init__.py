"""Why an item is recommended, by the model's own reasoning; see :class:`Explanation`."""

from fusionops.models.explanation.explanation import Explanation, Part, Removal
from fusionops.models.explanation.situation import Situation

__all__ = ["Explanation", "Part", "Removal", "Situation"]
