"""What does each ingredient of the speedrun give?

Jordan 2024, section 3, adds them one by one to a baseline that needs 45 epochs to 94% on CIFAR-10: a frozen whitening
layer (21 epochs), identities in place of random weights (18), a 64-fold learning rate of batch normalization's shifts
(13.5), Lookahead (12), several views of a test image (10.8), and an alternating mirror (9.9). Here one at a time is
left out of the speedrun's recipe, in four epochs, and all arms have the recipe's learning rate.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.speedrun import RECIPE
from tfcnn.verdict import Claim

JORDAN = "Jordan 2024, section 3"
ALL = "all ingredients"
LEFT_OUT: dict[str, study.Changes] = {
    "no whitening": {"whitening": False},
    "He's random weights, no identities": {"initializer": "he_normal"},
    "shifts at the common rate": {"shift_rate": 1.0},
    "no Lookahead": {"lookahead": 0},
    "mirrored at random": {"augment": "mirror,crop:2"},
}


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    figures.curves(record, left, "accuracy")
    left.legend(fontsize=6.5)
    figures.by_arm(record, right, "test_error")


def _claim(name, statement, published, arm, smallest):
    return Claim(name, statement, JORDAN, published, "test_error", {arm: 1, ALL: -1}, smallest)


STUDY = study.Study(
    name="speedrun_ingredients",
    question="What does each ingredient of the speedrun give?",
    source=JORDAN,
    base=RECIPE,
    arms=[study.Arm(ALL), *(study.Arm(label, changes) for label, changes in LEFT_OUT.items())],
    measures=[measures.TEST_ERROR, measures.test_error_with("ten_crop"), measures.gain_by("ten_crop"),
              measures.TRAIN_LOSS],
    claims=[
        _claim("whitening-helps", "Without the frozen whitening layer the test error is at least a point higher.",
               "45 to 21 epochs", "no whitening", 1.0),
        _claim("identities-help", "With He's random weights in place of identities the test error is at least 0.3 "
               "points higher.", "21 to 18 epochs", "He's random weights, no identities", 0.3),
        _claim("faster-shifts-help", "If batch normalization's shifts learn at the common rate, the test error is at "
               "least 0.3 points higher.", "18 to 13.5 epochs", "shifts at the common rate", 0.3),
        _claim("lookahead-helps", "Without Lookahead the test error is at least 0.3 points higher.",
               "13.5 to 12 epochs", "no Lookahead", 0.3),
        _claim("alternating-mirror-helps", "If images are mirrored at random instead of every other time, the test "
               "error is at least 0.1 points higher.", "10.8 to 9.9 epochs", "mirrored at random", 0.1),
        Claim("views-help-the-speedrun", "Ten crops of each test image lower the test error by at least 0.3 points.",
              JORDAN, "12 to 10.8 epochs (six views)", "gain_by_ten_crop", {ALL: 1}, smallest=0.3),
    ],
    scales={
        "full": study.Scale({"epochs": 4}, seeds=3),
        "sample": study.Scale({"epochs": 3}, seeds=2, arms=(ALL, "no whitening", "no Lookahead")),
    },
    draw=_draw,
    size=(8.5, 3.4),
)

if __name__ == "__main__":
    study.main(STUDY)
