"""A run's folder: written, locked, read, drawn, recorded, and compared with others.

A run's folder is the contract between training and everything that reads its results. Files are written atomically, and
result.json last: a run with a result.json is complete.

Nothing here imports TensorFlow or Keras, so that reading runs is quick and never takes a device.
"""

from tfcnn.runs.folder import (CHECKPOINTS, COMMAND, CURVES, DIVERGED, EXPORTED, METRICS, MISSING, MODEL, NORMALIZATION,
                               OBSERVED, RECIPE, RESULT, SILENT_UNITS, TIMINGS, TRAIN_EVENTS, VALIDATION_EVENTS,
                               RunFolder, State, new_folder)

__all__ = ["CHECKPOINTS", "COMMAND", "CURVES", "DIVERGED", "EXPORTED", "METRICS", "MISSING", "MODEL", "NORMALIZATION",
           "OBSERVED", "RECIPE", "RESULT", "SILENT_UNITS", "TIMINGS", "TRAIN_EVENTS", "VALIDATION_EVENTS", "RunFolder",
           "State", "new_folder"]
