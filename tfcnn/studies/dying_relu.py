"""How does a ReLU die, and does it come back?

The notes (001, day 4) describe how a large step can put a unit where no image activates it any more, and ask whether it
can come back and whether there is a universal solution. Counted here: units that are silent on all training images
after each epoch, against learning rate, initialization, batch normalization and leaky ReLU, and those that fire again.
"""

from tfcnn import figures, study
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.measures import TEST_ERROR, observed
from tfcnn.verdict import Claim

NOTE = "note 001, day 4"
RATES = (0.01, 0.03, 0.1, 0.2)
KINDS: dict[str, study.Changes] = {
    "ReLU": {}, "leaky ReLU": {"activation": "leaky_relu"}, "batch normalization": {"normalization": "batch"},
    "Glorot": {"initializer": "glorot_uniform"}}
SILENT, RESURRECTED = observed("silent", "silent units, %", -1), observed("resurrected", "units come back, %", None)


def _draw(record, figure):
    left, right = figure.subplots(1, 2)
    groups = {kind: {rate: f"{kind}, {rate:g}" for rate in RATES} for kind in KINDS}
    figures.against(record, left, SILENT.name, groups, "learning rate", log_x=True)
    figures.curves(record, right, "silent", [f"ReLU, {rate:g}" for rate in RATES])
    right.set_ylabel("share of silent units")


STUDY = study.Study(
    name="dying_relu",
    question="How does a ReLU die, and does it come back?",
    source=NOTE,
    base=RECIPE.replace(normalization="none", train_images=10_000, batch_size=128, l2=0.0, augment="none",
                        warmup_epochs=0.0, schedule="constant", initializer="he_normal"),
    arms=[study.Arm(f"{kind}, {rate:g}", {**changes, "learning_rate": rate})
          for kind, changes in KINDS.items() for rate in RATES],
    measures=[SILENT, RESURRECTED, TEST_ERROR],
    claims=[
        Claim("large-rates-kill", "At a learning rate of 0.1 at least five points more of the ReLUs are silent than at "
              "0.01.", NOTE, "none", SILENT.name, {"ReLU, 0.1": 1, "ReLU, 0.01": -1}, smallest=5.0),
        Claim("batch-normalization-keeps-alive", "At a learning rate of 0.1, batch normalization keeps at least five "
              "points more of the ReLUs alive.", NOTE, "none", SILENT.name,
              {"ReLU, 0.1": 1, "batch normalization, 0.1": -1}, smallest=5.0),
        Claim("the-dead-stay-dead", "At a learning rate of 0.1, less than one percent of the units come back from "
              "silence in an epoch.", NOTE, "none", RESURRECTED.name, {"ReLU, 0.1": 1}, smallest=1.0, effect=False),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "epochs": 8}, seeds=3),
        "sample": study.Scale({"epochs": 4, "train_images": 3_000}, seeds=2,
                              arms=("ReLU, 0.01", "ReLU, 0.1", "leaky ReLU, 0.1", "batch normalization, 0.1")),
    },
    draw=_draw,
    observer="tfcnn.silent_units:observe",
)

if __name__ == "__main__":
    study.main(STUDY)
