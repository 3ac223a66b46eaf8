"""How important is the learning-rate schedule, at equal budgets?

The notes (001, day 6) say that one obtains better results by annealing the learning rate, and name three ways: by
steps, exponentially, and as 1/t. Here each has the same number of epochs, and the best rate of its own.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.verdict import Claim

NOTE = "note 001, day 6"


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    figures.curves(record, left, "validation_accuracy")
    figures.by_arm(record, right, "test_error")


STUDY = study.Study(
    name="schedules",
    question="How important is the learning-rate schedule?",
    source=NOTE,
    base=FOUR_LAYERS,
    arms=[
        study.Arm("constant", {"schedule": "constant"}),
        study.Arm("steps", {"schedule": "step", "decay_epochs": "3,5", "decay_rate": 0.1}),
        study.Arm("exponential", {"schedule": "exponential", "decay_epochs": "1", "decay_rate": 0.6}),
        study.Arm("1/t", {"schedule": "inverse_time", "decay_epochs": "1", "decay_rate": 1.0}),
        study.Arm("cosine", {"schedule": "cosine"}),
        study.Arm("one cycle", {"schedule": "one_cycle", "learning_rate": 0.04}),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_LOSS],
    claims=[
        Claim("annealing-helps", "Annealing in two steps, to a tenth after the third and after the fifth of six "
              "epochs, lowers the test error of a constant rate by at least half a point.", NOTE, "better by annealing",
              "test_error", {"constant": 1, "steps": -1}, smallest=0.5),
        Claim("any-annealing-will-do", "These steps and a cosine end within one point of each other.",
              "asked here", "none", "test_error", {"steps": 1, "cosine": -1}, smallest=1.0, effect=False),
    ],
    scales={
        "full": study.Scale(study.BUDGET, seeds=4, grid=(0.5, 1, 2), search=0.5),
        "sample": study.Scale({"epochs": 6}, seeds=2, arms=("constant", "steps", "cosine")),
    },
    draw=_draw,
)

if __name__ == "__main__":
    study.main(STUDY)
