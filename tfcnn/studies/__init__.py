"""The studies, one question a module: each is run by `python -m tfcnn.studies.NAME`, and found by its name.

Each has `STUDY`. Importing a study does not import TensorFlow, nor does anything here.
"""

from __future__ import annotations

import importlib
import pkgutil

from tfcnn.study import Study


def studies() -> dict[str, Study]:
    """All studies by name, in alphabetical order."""
    return {module.name: importlib.import_module(f"{__name__}.{module.name}").STUDY
            for module in pkgutil.iter_modules(__path__)}
