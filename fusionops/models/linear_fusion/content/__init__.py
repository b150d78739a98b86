"""What items are like, and the kernel over it; see :class:`Content`."""

from fusionops.models.linear_fusion.content.content import Content
from fusionops.models.linear_fusion.content.encodings import checked, checked_added
from fusionops.models.linear_fusion.content.features import ContentFeatures

__all__ = ["Content", "ContentFeatures", "checked", "checked_added"]
