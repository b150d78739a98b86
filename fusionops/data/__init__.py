"""Tables to arrays: interactions, items, users, reviews, and their splits.

Needs the libraries of ``fusionops[rec]`` (pyarrow, safetensors, scipy, scikit-learn); torch is not
imported.
"""

from fusionops.data.encoded import Encoded
from fusionops.data.encoded_file import load_features
from fusionops.data.entities import Entities
from fusionops.data.ids import IdMap
from fusionops.data.interactions import EVENT_WEIGHTS, Interactions
from fusionops.data.items import Items
from fusionops.data.report import InputError, InputWarning, Problem, Report
from fusionops.data.reviews import Reviews
from fusionops.data.splits import Split
from fusionops.data.tables import read_table
from fusionops.data.users import Users

__all__ = [
    "EVENT_WEIGHTS",
    "Encoded",
    "Entities",
    "IdMap",
    "InputError",
    "InputWarning",
    "Interactions",
    "Items",
    "Problem",
    "Report",
    "Reviews",
    "Split",
    "Users",
    "load_features",
    "read_table",
]
