"""Transfer: when to freeze, and how much? Three regimes, by the number of images.

The notes (002, 003): with a small training set train the last layer only; with a large one freeze a few layers; with a
very large one use the trained weights as initialization. And what frozen layers compute needs to be computed only once.
Here a network with four layers learns CIFAR-100's classes, and then CIFAR-10's from 100 to 45,000 images: *frozen*
trains the last layer, *partly frozen* the last two, *initialization* all layers, *from scratch* all from random
weights. Nothing changes the images, so that features can be cached; a crop without padding changes nothing either, but
the features are then not cached. On the sample the trained classes are the first five, and the new ones the others.

For the same number of images all regimes have as many steps. More epochs would help the network from scratch most.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.recipe import Scalar
from tfcnn.verdict import Claim

NOTES = "notes 002 and 003"
REGIMES: dict[str, dict[str, Scalar]] = {
    "frozen": {"freeze": "all"}, "partly frozen": {"freeze": "conv2"}, "initialization": {}, "from scratch": {}}
SIZES: dict[float, dict[str, Scalar]] = {
    100: {"train_images": 100, "epochs": 40, "batch_size": 10},
    1000: {"train_images": 1000, "epochs": 20, "batch_size": 20},
    10000: {"train_images": 10000, "epochs": 8}, 45000: {"train_images": 45000, "epochs": 3}}
SOURCE, NOT_CACHED = "trained network", "frozen, not cached, 10,000"
TARGET: dict[str, Scalar] = {"dataset": "cifar10"}
NEW: dict[str, Scalar] = {"dataset": "sample", "classes": "5-9", "validation": 0.1}
SAMPLE = [f"{regime}, {size}" for size in ("100", "1,000") for regime in ("frozen", "initialization", "from scratch")]


def _arm(regime, size):
    source = "" if regime == "from scratch" else SOURCE
    return study.Arm(f"{regime}, {size:,}", TARGET | SIZES[size] | REGIMES[regime], starts_from=source)


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    groups = {regime: {size: f"{regime}, {size:,}" for size in SIZES} for regime in REGIMES
              if f"{regime}, 100" in figures.labels(record)}
    figures.against(record, left, "test_error", groups, "training images", log_x=True, ticks=True)
    size = "10,000" if "from scratch, 10,000" in figures.labels(record) else "1,000"
    figures.by_arm(record, right, "run_seconds", [NOT_CACHED, *(f"{regime}, {size}" for regime in REGIMES)])


STUDY = study.Study(
    name="transfer",
    question="Transfer: how much of a trained network should be frozen, and when?",
    source=NOTES,
    base=FOUR_LAYERS.replace(validation=0.04),
    arms=[
        study.Arm(SOURCE, {"dataset": "cifar100", "epochs": 8, "augment": "standard"}),
        *(_arm(regime, size) for size in SIZES for regime in REGIMES),
        study.Arm(NOT_CACHED, TARGET | SIZES[10000] | {"freeze": "all", "augment": "crop:0"}, starts_from=SOURCE),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR, measures.RUN_SECONDS],
    claims=[
        Claim("transfer-small", "With 100 images, a new last layer on a trained network gives a lower test error than "
              "a network from scratch, by at least five points.", NOTES, "none", "test_error",
              {"from scratch, 100": 1, "frozen, 100": -1}, smallest=5.0),
        Claim("transfer-regimes", "What is gained by training all layers of a trained network instead of the last one "
              "is larger with 45,000 images than with 100, by at least two points of test error.", NOTES, "none",
              "test_error", {"frozen, 45,000": 1, "initialization, 45,000": -1, "frozen, 100": -1,
                             "initialization, 100": 1}, smallest=2.0),
        Claim("transfer-cached", "With cached features the last layer is trained in at most half of the seconds.",
              "note 003", "none", "run_seconds", {NOT_CACHED: 1, "frozen, 10,000": -1}, smallest=2.0, ratio=True),
    ],
    scales={
        "full": study.Scale({}, seeds=3, grid=(0.3, 1, 3)),
        "sample": study.Scale({}, seeds=2, arms=[SOURCE, *SAMPLE], of_arms={
            SOURCE: {"dataset": "sample", "classes": "0-4", "validation": 0.1}, **{label: NEW for label in SAMPLE}}),
    },
    draw=_draw,
    size=(9.0, 3.4),
)

if __name__ == "__main__":
    study.main(STUDY)
