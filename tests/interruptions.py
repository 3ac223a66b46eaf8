"""How long SIGTERM and Ctrl-C take to end a run on the sample, at each stage of it.

`python -m tests.interruptions [EXPERIMENT [FLAGS]]` prints a table in Markdown; the experiment is AlexNet unless named.
Seconds are from the signal to the end of the process. They depend on the machine, so no test asserts them.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path

from tests.crash_injection import Scenario, run_scenarios

STAGES = {
    "setting up": Scenario(before="recipe.json"),
    "tracing the graph": Scenario(inside="tracing"),
    "the first step": Scenario(inside="steps"),
    "a later call of the graph": Scenario(inside="steps", call=2),
    "validation": Scenario(inside="evaluation"),
    "saving a checkpoint": Scenario(before=r"ckpt-\d+\.data.*"),
    "the test": Scenario(inside="test"),
    "saving the network": Scenario(before=r"model\.keras"),
    "drawing the curves": Scenario(before="curves.png"),
    "writing the result": Scenario(before="result.json"),
}


def main(experiment: str = "alexnet", *flags: str) -> None:
    print("| interrupted during | SIGTERM, s | status | Ctrl-C, s | status |\n|---|---:|---:|---:|---:|")
    for stage, scenario in STAGES.items():
        cells = []
        for name in ("SIGTERM", "SIGINT"):
            with tempfile.TemporaryDirectory() as folder:
                outcome, = run_scenarios(Path(folder), "run", [dataclasses.replace(scenario, signal=name)],
                                         "--epochs=1", "--dataset=sample", *flags, experiment=experiment)
            assert outcome.seconds is not None, outcome.errors
            cells += [f"{outcome.seconds:.1f}", str(outcome.status)]
        print(f"| {stage} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
