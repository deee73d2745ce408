"""Names of metrics and of weights of classes, which the command line accepts without numpy.

Law of this file: names alone.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Metric: TypeAlias = Literal["error", "balanced_error", "macro_f1", "auroc"]
ClassWeights: TypeAlias = Literal["balanced"]

OF_CLASSES: frozenset[Metric] = frozenset({"balanced_error", "macro_f1", "auroc"})
"""Metrics that are means over the classes, so each class must have an image."""
ARE_LARGE_IF_GOOD: frozenset[Metric] = frozenset({"macro_f1", "auroc"})
