"""How does a ReLU die, and does it come back?

The notes (001, day 4) describe how a large step can put a unit where no image activates it any more, and ask whether it
can come back and whether there is a universal solution. Counted here: units that are silent on all training images
after each epoch, against learning rate, initialization, initial biases, batch normalization and leaky ReLU,
and those that fire again.
"""

from tfcnn import figures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.measures import TEST_ERROR, come_back, observed
from tfcnn.verdict import Claim

NOTE = "note 001, day 4"
RATES = (0.01, 0.03, 0.1)
KINDS: dict[str, study.Changes] = {
    "ReLU": {}, "leaky ReLU": {"activation": "leaky_relu"}, "batch normalization": {"normalization": "batch"},
    "Glorot": {"initializer": "glorot_uniform"}, "biases of 1": {"bias": 1.0}}
SILENT, BACK = observed("silent", "silent units, %", -1), come_back()


def _draw(record, figure):
    left, middle, right = figure.subplots(1, 3)
    groups = {kind: {rate: f"{kind}, {rate:g}" for rate in RATES} for kind in KINDS}
    figures.against(record, left, SILENT.name, groups, "learning rate", log_x=True)
    figures.curves(record, middle, "silent", [f"ReLU, {rate:g}" for rate in RATES])
    middle.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    middle.set_ylabel(record["measures"][SILENT.name])
    figures.against(record, right, BACK.name, groups, "learning rate", log_x=True)
    right.get_legend().remove()


STUDY = study.Study(
    name="dying_relu",
    question="How does a ReLU die, and does it come back?",
    source=NOTE,
    base=FOUR_LAYERS.replace(train_images=8_000, l2=0.0, schedule="constant", warmup_epochs=0.0, validation=0.04),
    arms=[study.Arm(f"{kind}, {rate:g}", {**changes, "learning_rate": rate})
          for kind, changes in KINDS.items() for rate in RATES],
    measures=[SILENT, BACK, TEST_ERROR],
    claims=[
        Claim("large-rates-kill", "The share of silent ReLUs is at least five points higher at a learning rate of 0.1 "
              "than at 0.01.", NOTE, "none", SILENT.name, {"ReLU, 0.1": 1, "ReLU, 0.01": -1}, smallest=5.0),
        Claim("batch-normalization-keeps-alive", "At a learning rate of 0.1 the share of silent ReLUs is at least five "
              "points lower with batch normalization.", NOTE, "none", SILENT.name,
              {"ReLU, 0.1": 1, "batch normalization, 0.1": -1}, smallest=5.0),
        Claim("the-dead-stay-dead", "At a learning rate of 0.1, of the ReLUs that are silent after an epoch fewer "
              "than one in ten fires again after the next one.", NOTE, "none", BACK.name, {"ReLU, 0.1": 1},
              smallest=10.0, effect=False),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "epochs": 6}, seeds=3),
        "sample": study.Scale({"epochs": 4, "train_images": 3_000}, seeds=2,
                              arms=("ReLU, 0.01", "ReLU, 0.1", "leaky ReLU, 0.1", "batch normalization, 0.1")),
    },
    draw=_draw,
    size=(10.5, 3.2),
    observer="tfcnn.silent_units:observe",
)

if __name__ == "__main__":
    study.main(STUDY)
