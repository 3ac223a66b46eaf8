"""What role does the normalization of the inputs play, and does ReLU need it?

The notes (001 and 004) ask for it; Krizhevsky et al. 2012, section 3.3, say that "ReLUs have the desirable property
that they do not require input normalization to prevent them from saturating". The paper means the inputs of a unit;
here it is asked of the pixels.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.verdict import Claim

PAPER = "notes 001, 004; Krizhevsky et al. 2012, section 3.3"
KINDS = ("none", "channel", "image", "pixel_mean", "zca")
RELU = {"activation": "relu", "initializer": "he_normal"}
TANH = {"activation": "tanh", "initializer": "glorot_normal"}


def _draw(record, figure):
    for panel, name in zip(figure.subplots(1, 2, sharex=True), ("ReLU", "tanh")):
        figures.by_arm(record, panel, "test_error", [f"{name}, {kind}" for kind in KINDS])
        panel.set_title(name)


STUDY = study.Study(
    name="input_normalization",
    question="What role does input normalization play, and does ReLU need it?",
    source=PAPER,
    base=FOUR_LAYERS,
    arms=[study.Arm(f"{name}, {kind}", {**changes, "input_normalization": kind})
          for name, changes in (("ReLU", RELU), ("tanh", TANH)) for kind in KINDS],
    measures=[measures.TEST_ERROR, measures.TRAIN_LOSS],
    claims=[
        Claim("relu-needs-no-normalization", "With ReLU, pixels in [0, 1] give a test error within one point of "
              "normalized ones.", PAPER, "not required (of a unit's inputs)", "test_error",
              {"ReLU, none": 1, "ReLU, channel": -1}, smallest=1.0, effect=False),
        Claim("tanh-needs-normalization", "With tanh, pixels in [0, 1] give a test error at least one point above "
              "normalized ones.", PAPER, "none", "test_error", {"tanh, none": 1, "tanh, channel": -1}, smallest=1.0),
    ],
    scales={
        "full": study.Scale(study.BUDGET | {"train_images": 10_000}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 5}, seeds=2,
                              arms=("ReLU, none", "ReLU, channel", "tanh, none", "tanh, channel")),
    },
    draw=_draw,
)

if __name__ == "__main__":
    study.main(STUDY)
