"""How long SIGTERM and Ctrl-C take to end a run on the sample, whatever it is doing.

`python -m tests.interruptions [EXPERIMENT [FLAGS]]` prints a table in Markdown, by default of the main job; seconds are
from the signal to the end of the process. No test asserts them, for they judge the machine, too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests import mortal

STAGES = {
    "setting up": {"before": "recipe.json"},
    "tracing the graph": {"inside": "_graph"},
    "the first step": {"inside": "_train_call"},
    "a later call of the graph": {"inside": "_train_call", "call": 4},
    "validation": {"inside": "_evaluate"},
    "saving a checkpoint": {"before": r"ckpt-\d+\.data.*"},
    "the test": {"inside": "test"},
    "saving the network": {"before": r"model\.keras"},
    "drawing the curves": {"before": "curves.png"},
    "writing the result": {"before": "result.json"},
}


def main(experiment: str = "alexnet", *flags: str) -> None:
    print("| interrupted during | SIGTERM, s | status | Ctrl-C, s | status |\n|---|---:|---:|---:|---:|")
    for stage, life in STAGES.items():
        cells = []
        for name in ("SIGTERM", "SIGINT"):
            with tempfile.TemporaryDirectory() as place:
                end, = mortal.follow(Path(place), "run", [life | {"signal": name}], "--epochs=1", "--dataset=sample",
                                     *flags, experiment=experiment)
            cells += [f"{end['seconds']:.1f}", str(end["status"])]
        print(f"| {stage} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
