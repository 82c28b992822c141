"""Losses as plain functions. Paper symbols are mapped to names where they are used.

All are computed in float32 at least, whatever the precision of their input and also under
autocast: a similarity divided by a temperature of 0.1 keeps two digits in bfloat16.
"""

from ._global import (
    barlow_twins,
    batchwise_barlow,
    info_nce,
    negative_cosine,
    nt_xent,
    resolve_loss,
    vicreg,
)
from ._local import feature_map_nce, offset_nce

__all__ = [
    "barlow_twins",
    "batchwise_barlow",
    "feature_map_nce",
    "info_nce",
    "negative_cosine",
    "nt_xent",
    "offset_nce",
    "resolve_loss",
    "vicreg",
]
