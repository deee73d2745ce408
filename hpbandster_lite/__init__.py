"""Joint neural architecture and hyperparameter search with BOHB over many GPU workers."""

from __future__ import annotations

__version__ = "0.1.0"
