"""Bulk runs: a labelled file through a checkpoint's head, and how well it did."""

from __future__ import annotations

from refimpl.validate.running import TASKS, Report, Speed, validate, write_predictions
from refimpl.validate.task import Options

__all__ = ["TASKS", "Options", "Report", "Speed", "validate", "write_predictions"]
