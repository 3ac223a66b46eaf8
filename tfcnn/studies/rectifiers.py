"""Do the variants of ReLU help: very leaky, parametric, randomized, exponential?

The notes (001) ask for a universal solution to dying ReLUs and name Xu et al. 2015, whose table 3 has the test errors
of Network in Network on CIFAR-10, one run each. Here it is cuda-convnet's network with four layers, which trains in a
tenth of the time. The slope of its leaky ReLU is 0.2: close to that of Xu et al.'s "very leaky" ReLU, 1 / 5.5, and not
of their leaky one, 1 / 100, which the suite does not have.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.verdict import Claim

XU = "Xu et al. 2015, table 3 (Network in Network)"


def _draw(record, figure):
    left, right = figure.subplots(1, 2)
    figures.by_arm(record, left, "test_error")
    figures.by_arm(record, right, "train_loss")


STUDY = study.Study(
    name="rectifiers",
    question="Do the variants of ReLU help?",
    source=f"note 001, day 4; {XU}",
    base=FOUR_LAYERS,
    arms=[study.Arm(label, {"activation": activation}) for label, activation in (
        ("ReLU", "relu"), ("very leaky", "leaky_relu"), ("PReLU", "prelu"), ("RReLU", "rrelu"), ("ELU", "elu"))],
    measures=[measures.TEST_ERROR, measures.TRAIN_LOSS],
    claims=[
        Claim("very-leaky-helps", "A very leaky ReLU, with a slope of 0.2, lowers ReLU's test error by at least half a "
              "point.", XU, "12.45% to 11.20%", "test_error", {"ReLU": 1, "very leaky": -1}, smallest=0.5),
        Claim("prelu-helps", "A parametric ReLU lowers ReLU's test error by at least half a point.", XU,
              "12.45% to 11.79%", "test_error", {"ReLU": 1, "PReLU": -1}, smallest=0.5),
        Claim("rrelu-helps", "A randomized ReLU lowers ReLU's test error by at least half a point.", XU,
              "12.45% to 11.19%", "test_error", {"ReLU": 1, "RReLU": -1}, smallest=0.5),
    ],
    scales={
        "full": study.Scale(study.BUDGET, seeds=4, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 6}, seeds=2, arms=("ReLU", "very leaky", "PReLU", "RReLU")),
    },
    draw=_draw,
    size=(7.4, 3.0),
)

if __name__ == "__main__":
    study.main(STUDY)
