"""A prepared item side on NumPy arrays: search, change, save and map into memory without torch."""

from fusionops.catalog.catalog import Catalog
from fusionops.catalog.verified import CatalogFileError

__all__ = ["Catalog", "CatalogFileError"]
