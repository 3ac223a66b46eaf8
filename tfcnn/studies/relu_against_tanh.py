"""Saturating or not: how much faster does a network learn with ReLU than with tanh?

Note 001 (day 3) says that with saturating nonlinearities a model trains "extremely slowly". Krizhevsky, Sutskever and
Hinton 2012, section 3.1 and figure 1, put a number on it: a four-layer convolutional network reaches 25% training error
on CIFAR-10 six times faster with ReLU than with tanh. Each had its own learning rate, and nothing was regularized. The
paper does not describe the network; here it is the one with four layers of Krizhevsky's cuda-convnet.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.verdict import Claim

EPOCHS, SECONDS = measures.epochs_to(25), measures.seconds_to(25)
PAPER = "Krizhevsky et al. 2012, section 3.1 and figure 1"


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    figures.curves(record, left, "accuracy")
    left.axhline(25, color="0.5", linewidth=0.8, linestyle=":")
    figures.by_arm(record, right, EPOCHS.name)


STUDY = study.Study(
    name="relu_against_tanh",
    question="How much faster does a network learn with ReLU than with tanh?",
    source=f"note 001, day 3; {PAPER}",
    base=FOUR_LAYERS.replace(l2=0.0, schedule="constant", warmup_epochs=0.0, learning_rate=0.01),
    arms=[
        study.Arm("ReLU", {"activation": "relu", "initializer": "he_normal"}),
        study.Arm("tanh", {"activation": "tanh", "initializer": "glorot_normal"}),
        study.Arm("sigmoid", {"activation": "sigmoid", "initializer": "glorot_normal", "learning_rate": 0.1}),
    ],
    measures=[EPOCHS, SECONDS, measures.TRAIN_ERROR, measures.TEST_ERROR],
    claims=[
        Claim("relu-three-times", "With ReLU a network reaches 25% training error in at most a third of the epochs "
              "that it takes with tanh.", f"note 001, day 3; {PAPER}", "6 times", EPOCHS.name, {"tanh": 1, "ReLU": -1},
              smallest=3.0, ratio=True),
        Claim("relu-faster", "With tanh a network takes at least 1.1 times as many epochs to 25% training error "
              "as with ReLU.", f"note 001, day 3; {PAPER}", "6 times", EPOCHS.name, {"tanh": 1, "ReLU": -1},
              smallest=1.1, ratio=True),
        Claim("relu-faster-in-seconds", "With tanh a network takes at least 1.1 times as many seconds to 25% training "
              "error as with ReLU.", f"note 001, day 3; {PAPER}", "6 times", SECONDS.name, {"tanh": 1, "ReLU": -1},
              smallest=1.1, ratio=True),
    ],
    scales={
        "full": study.Scale(study.BUDGET | {"epochs": 20}, seeds=3, arms=("ReLU", "tanh"), grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 6}, seeds=2),
    },
    draw=_draw,
)

if __name__ == "__main__":
    study.main(STUDY)
