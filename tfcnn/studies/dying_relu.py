"""How does a ReLU die, and does it come back?

The notes (001, day 4) describe how a large step can put a unit where no image activates it any more, and ask whether it
can come back and whether there is a universal solution. Counted here: units that are silent on all training images
after each epoch, against learning rate, initialization, batch normalization and leaky ReLU, and those that fire again.
The first value of the biases is not varied: it is zero in all of this network's layers, and no option.
"""

from tfcnn import figures, study
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.measures import TEST_ERROR, come_back, observed
from tfcnn.verdict import Claim

NOTE = "note 001, day 4"
RATES = (0.001, 0.003, 0.01, 0.03)  # at 0.1 ReLU's loss is not finite after an epoch of the sample
KINDS: dict[str, study.Changes] = {
    "ReLU": {}, "leaky ReLU": {"activation": "leaky_relu"}, "batch normalization": {"normalization": "batch"},
    "Glorot": {"initializer": "glorot_uniform"}}
SILENT, BACK = observed("silent", "silent units, %", -1), come_back()


def _draw(record, figure):
    left, middle, right = figure.subplots(1, 3)
    groups = {kind: {rate: f"{kind}, {rate:g}" for rate in RATES} for kind in KINDS}
    figures.against(record, left, SILENT.name, groups, "learning rate", log_x=True)
    figures.curves(record, middle, "silent", [f"ReLU, {rate:g}" for rate in RATES])
    middle.set_ylabel("share of silent units")
    figures.against(record, right, BACK.name, groups, "learning rate", log_x=True)
    right.get_legend().remove()


STUDY = study.Study(
    name="dying_relu",
    question="How does a ReLU die, and does it come back?",
    source=NOTE,
    base=RECIPE.replace(normalization="none", train_images=10_000, batch_size=128, l2=0.0, augment="none",
                        warmup_epochs=0.0, schedule="constant", initializer="he_normal"),
    arms=[study.Arm(f"{kind}, {rate:g}", {**changes, "learning_rate": rate})
          for kind, changes in KINDS.items() for rate in RATES],
    measures=[SILENT, BACK, TEST_ERROR],
    claims=[
        Claim("large-rates-kill", "At a learning rate of 0.03 at least five points more of the ReLUs are silent than "
              "at 0.003.", NOTE, "none", SILENT.name, {"ReLU, 0.03": 1, "ReLU, 0.003": -1}, smallest=5.0),
        Claim("batch-normalization-keeps-alive", "At a learning rate of 0.03, batch normalization keeps at least five "
              "points more of the ReLUs alive.", NOTE, "none", SILENT.name,
              {"ReLU, 0.03": 1, "batch normalization, 0.03": -1}, smallest=5.0),
        Claim("the-dead-stay-dead", "At a learning rate of 0.03, of the ReLUs that are silent after an epoch fewer "
              "than one in ten fires again after the next one.", NOTE, "none", BACK.name, {"ReLU, 0.03": 1},
              smallest=10.0, effect=False),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "epochs": 8}, seeds=3),
        "sample": study.Scale({"epochs": 4, "train_images": 3_000}, seeds=2,
                              arms=("ReLU, 0.003", "ReLU, 0.03", "leaky ReLU, 0.03", "batch normalization, 0.03")),
    },
    draw=_draw,
    size=(10.5, 3.2),
    observer="tfcnn.silent_units:observe",
)

if __name__ == "__main__":
    study.main(STUDY)
