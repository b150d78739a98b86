"""The users of one call to a recommender."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from fusionops.data.ids import Codes
from fusionops.models.interface.histories import Histories


@dataclass(frozen=True)
class Asked:
    """The users of one call.

    Attributes
    ----------
    users : numpy.ndarray
        ``int64 [U]`` codes, -1 for users that the model has not seen.
    histories : Histories
        What each of them has had, up to the moment asked for.
    pairs : scipy.sparse.csr_array
        ``float32 [U, P]``, each pair of the histories once, with its weight in the profile.
    """

    users: Codes
    histories: Histories
    pairs: sparse.csr_array
