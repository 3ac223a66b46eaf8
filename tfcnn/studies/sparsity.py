"""Does sparsity pay? L1 penalties, exact zeros, and a smaller dense network beside them.

The notes (001, day 6) explain sparse connections by an L1 penalty, and quote that sparsity "has not been paid off".
After training, weights below a thousandth are set to zero, and the network is tested again. The smaller dense network
has a twentieth of the weights.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.verdict import Claim

NOTE = "note 001, day 6"
STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4)
ZEROS, ERROR = measures.zero_share(1e-3), measures.error_with_zeros(1e-3)
DENSE, SMALL = "no penalty", "smaller and dense"


def _draw(record, figure):
    panel = figure.subplots()
    for number, label in enumerate(figures.labels(record)):
        colour = figures.COLOURS[number]
        panel.plot(figures.values(record, label, ZEROS.name), figures.values(record, label, ERROR.name), "o",
                   color=colour, label=label, alpha=0.8)
    panel.set_xlabel(ZEROS.title)
    panel.set_ylabel(ERROR.title)
    panel.legend(fontsize=8)


STUDY = study.Study(
    name="sparsity",
    question="Does sparsity pay?",
    source=NOTE,
    base=RECIPE.replace(normalization="none", train_images=10_000, batch_size=128, learning_rate=0.02, l2=0.0,
                        initializer="he_normal"),
    arms=[study.Arm(DENSE), *(study.Arm(f"L1 of {strength:g}", {"l1": strength}) for strength in STRENGTHS),
          study.Arm(SMALL, {"variant": "cifar_four_layers"})],
    measures=[ZEROS, ERROR, measures.TEST_ERROR],
    claims=[
        Claim("l1-makes-zeros", "An L1 penalty of 0.0001 turns at least half of the weights into zeros.", NOTE, "none",
              ZEROS.name, {"L1 of 0.0001": 1, DENSE: -1}, smallest=50.0),
        Claim("sparsity-has-not-paid-off", "A sparse network (L1 of 0.0001) is no better than a smaller dense one: "
              "their test errors are within two points.", NOTE, "has not paid off", ERROR.name,
              {SMALL: 1, "L1 of 0.0001": -1}, smallest=2.0, effect=False),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "epochs": 15}, seeds=3),
        "sample": study.Scale({"epochs": 8, "train_images": 3_000}, seeds=2, arms=(DENSE, "L1 of 0.0001", SMALL)),
    },
    draw=_draw,
    size=(5.2, 3.4),
)

if __name__ == "__main__":
    study.main(STUDY)
