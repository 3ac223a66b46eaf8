"""Momentum, Adam, moving averages: which update rule reaches the lowest error in the same number of epochs?

The notes (001, days 5 and 6) ask what momentum, Adam and moving averages are. Wilson et al. 2017 find that adaptive
methods end with a higher test error than stochastic gradient descent; Izmailov et al. 2018 that averaged weights end
with a lower one than the last weights.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.verdict import Claim

WILSON = "Wilson et al. 2017, section 4 (VGG)"


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    # Averaging changes no training loss. The averaged arm comes last, so that the others have one colour on both sides.
    averaged = "momentum, averaged"
    trained = [label for label in figures.labels(record) if label != averaged]
    figures.curves(record, left, "loss", trained)
    left.legend(fontsize=6.5)
    figures.by_arm(record, right, "test_error", [*trained, averaged])


STUDY = study.Study(
    name="optimizers",
    question="Which optimizer reaches the lowest error in the same number of epochs?",
    source="note 001, days 5 and 6; Wilson et al. 2017; Izmailov et al. 2018",
    base=FOUR_LAYERS,
    arms=[
        study.Arm("SGD", {"optimizer": "sgd", "learning_rate": 0.1}),
        study.Arm("momentum", {"optimizer": "momentum", "learning_rate": 0.02}),
        study.Arm("momentum, averaged", {"optimizer": "momentum", "learning_rate": 0.02, "ema": 0.998}),
        study.Arm("Nesterov", {"optimizer": "nesterov", "learning_rate": 0.02}),
        study.Arm("Adagrad", {"optimizer": "adagrad", "learning_rate": 0.02}),
        study.Arm("RMSprop", {"optimizer": "rmsprop", "momentum": 0.0, "learning_rate": 0.001}),
        study.Arm("Adam", {"optimizer": "adam", "learning_rate": 0.002}),
        study.Arm("AdamW", {"optimizer": "adamw", "learning_rate": 0.002, "weight_decay": 0.05, "l2": 0.0}),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_LOSS],
    claims=[
        Claim("rmsprop-generalizes-worse", "RMSprop ends with a test error at least half a point above momentum's.",
              WILSON, "7.65% with SGD, 9.60% with RMSprop", "test_error", {"RMSprop": 1, "momentum": -1}, smallest=0.5),
        Claim("adam-generalizes-worse", "Adam ends with a test error at least half a point above momentum's.", WILSON,
              "adaptive methods generalize worse", "test_error", {"Adam": 1, "momentum": -1}, smallest=0.5),
        Claim("averaging-helps", "An exponential moving average of the weights, at a rate that falls to zero, ends "
              "with a lower test error than the last weights, by at least 0.1 points.",
              "asked here; Izmailov et al. 2018 average weights at a rate that stays high", "none", "test_error",
              {"momentum": 1, "momentum, averaged": -1}, smallest=0.1),
    ],
    scales={
        "full": study.Scale(study.BUDGET, seeds=4, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 5}, seeds=2, arms=("SGD", "momentum", "Adam", "momentum, averaged")),
    },
    draw=_draw,
    size=(7.4, 3.4),
)

if __name__ == "__main__":
    study.main(STUDY)
