"""Scores rows with a model bundle, from arrays and ONNX graphs alone: what the service runs, and what judges
a champion on new data.

Shapes: B rows, F inputs, C context columns, L bars of a window, E served experts.
"""

from components.scoring.cross_section import CrossSection
from components.scoring.form import SERVED_FORMAT, ScoringError
from components.scoring.model import ExpertOutputs, Model
from components.scoring.stacker import Scores
from components.scoring.table import score_table

__all__ = ["SERVED_FORMAT", "CrossSection", "ExpertOutputs", "Model", "Scores", "ScoringError", "score_table"]
