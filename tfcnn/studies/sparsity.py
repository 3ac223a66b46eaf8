"""Does sparsity pay off? L1 penalties, exact zeros, and a smaller dense network beside them.

The notes (001, day 6) explain sparse connections by an L1 penalty, and quote that sparsity "has not been paid off".
After training, weights below a thousandth are set to zero, and the network is tested again. The smaller dense network
has a twentieth of the weights. The zeros among the activations, which ReLU makes without any penalty, stand beside.
"""

from tfcnn import drawing, figures, measures, study
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.verdict import Claim

NOTE = "note 001, day 6"
STRENGTHS = {"L1 of 0.00001": 1e-5, "L1 of 0.00003": 3e-5, "L1 of 0.0001": 1e-4, "L1 of 0.0003": 3e-4}
ZEROS, ERROR, SILENCE = measures.zero_share(1e-3), measures.error_with_zeros(1e-3), measures.zero_activations()
DENSE, SMALL = "no penalty", "smaller and dense"


def _draw(record, figure):
    panel, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    for number, label in enumerate(figures.labels(record)):
        colour = drawing.COLOURS[number]
        panel.plot(figures.values(record, label, ZEROS.name), figures.values(record, label, ERROR.name), "o",
                   color=colour, label=label, alpha=0.8)
    panel.set_xlabel(ZEROS.title)
    panel.set_ylabel(ERROR.title)
    panel.legend(fontsize=8)
    figures.by_arm(record, right, SILENCE.name)


STUDY = study.Study(
    name="sparsity",
    question="Does sparsity pay off?",
    source=NOTE,
    base=RECIPE.replace(normalization="none", train_images=10_000, batch_size=128, learning_rate=0.02, l2=0.0,
                        initializer="he_normal"),
    arms=[study.Arm(DENSE), *(study.Arm(label, {"l1": strength}) for label, strength in STRENGTHS.items()),
          study.Arm(SMALL, {"variant": "cifar_four_layers"})],
    measures=[ZEROS, ERROR, SILENCE, measures.TEST_ERROR],
    claims=[
        Claim("l1-makes-zeros", "With an L1 penalty of 0.0001 the share of weights below 0.001 is at least 50 points "
              "higher.", NOTE, "none", ZEROS.name, {"L1 of 0.0001": 1, DENSE: -1}, smallest=50.0),
        Claim("sparsity-has-not-paid-off", "A sparse network (L1 of 0.0001) is not better than a smaller dense one by "
              "a point of test error.", NOTE, "has not paid off", ERROR.name, {"L1 of 0.0001": 1, SMALL: -1},
              smallest=-1.0),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "epochs": 8}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 8, "train_images": 3_000}, seeds=2, arms=(DENSE, "L1 of 0.0001", SMALL)),
    },
    draw=_draw,
    size=(8.4, 3.4),
)

if __name__ == "__main__":
    study.main(STUDY)
