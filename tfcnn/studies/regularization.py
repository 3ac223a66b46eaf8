"""What is regularization and why does it work? Crops, weight decay and random labels.

The notes (000) ask. Zhang et al. 2017, table 1, train networks with and without random crops and weight decay, and on
random labels, which they fit, too. Here it is the paper's AlexNet, with 1,387,786 parameters, and for the random labels
its MLP with one layer, too; its small Inception takes too long. Images are reduced to 28x28 pixels, and a crop shifts
them by up to four, where the paper cuts 28x28 pixels out. No learning rate is chosen for random labels, since no
validation image tells which one is better.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments import mlp
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.verdict import Claim

ZHANG = "note 000; Zhang et al. 2017, table 1 (AlexNet)"
CROP: study.Changes = {"augment": "standard", "mirror": False}
DECAY: study.Changes = {"l2": 0.0005}
RANDOM: study.Changes = {"random_labels": 1.0}
BASE = RECIPE.replace(image_size=28, batch_size=128, learning_rate=0.02, augment="none", l2=0.0, warmup_epochs=0.5,
                      initializer="he_normal", validation=0.04, train_images=10_000, epochs=10)
FEW = BASE.replace(train_images=2_000, epochs=60, schedule="constant")
MLP = mlp.RECIPE.replace(variant="one_layer", dropout=0.0, image_size=28, batch_size=128, learning_rate=0.01,
                         validation=0.04, train_images=2_000, epochs=60, schedule="constant")

FITTED = ("true labels", "random labels", "MLP, true labels", "MLP, random labels")


def _draw(record, figure):
    left, right = figure.subplots(1, 2)
    figures.by_arm(record, left, "test_error", ("crop and decay", "crop", "decay", "dropout", "neither"))
    figures.curves(record, right, "accuracy", FITTED)
    images = {arm["recipe"]["train_images"] for arm in record["arms"] if arm["label"] in FITTED}
    right.set_title(f"{min(images):,} images, no regularization")


STUDY = study.Study(
    name="regularization",
    question="What is regularization, and why does it work?",
    source=ZHANG,
    base=BASE,
    arms=[
        study.Arm("crop and decay", {**CROP, **DECAY}), study.Arm("crop", CROP), study.Arm("decay", DECAY),
        study.Arm("dropout", {"dropout": 0.5}), study.Arm("neither"),
        study.Arm("true labels", {}, FEW, searches=False), study.Arm("random labels", RANDOM, FEW, searches=False),
        study.Arm("MLP, true labels", {}, MLP, searches=False),
        study.Arm("MLP, random labels", RANDOM, MLP, searches=False),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR],
    claims=[
        Claim("random-labels-are-fitted", "Without regularization a network fits 2,000 random labels to a training "
              "error below one percent.", ZHANG, "99.82% training accuracy", "train_error", {"random labels": 1},
              smallest=1.0, effect=False),
        Claim("crop-helps-more-than-decay", "Random crops lower the test error more than weight decay does, by at "
              "least a point.", ZHANG, "79.66% against 77.36% accuracy", "test_error",
              {"decay": 1, "crop": -1}, smallest=1.0),
        Claim("regularization-is-not-all", "Without crops and decay the test error is at most ten points higher.",
              ZHANG, "81.22% against 76.07% accuracy", "test_error",
              {"neither": 1, "crop and decay": -1}, smallest=10.0, effect=False),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10"}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 40, "train_images": 1_000}, seeds=2,
                              arms=("true labels", "random labels", "neither")),
    },
    draw=_draw,
)

if __name__ == "__main__":
    study.main(STUDY)
