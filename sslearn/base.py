"""For those who write a method: the base of estimators, and of what they train."""

from ._base import BaseSSL
from ._objective import Batch, Objective, jointly

__all__ = ["BaseSSL", "Batch", "Objective", "jointly"]
