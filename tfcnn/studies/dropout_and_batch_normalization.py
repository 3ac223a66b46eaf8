"""Dropout, batch normalization, or both: which when, and where does dropout go?

The notes (000, 004) say to reduce or remove dropout with batch normalization, and that dropout stands after the ReLU,
before the dense layer. Li et al. 2018 (1801.05134) find that dropout before a batch normalization harms it. All arms
have crops, mirror images and weight decay.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.verdict import Claim

NOTE = "notes 000, 004; Li et al. 2018, figure 1"
BOTH: dict[str, study.Changes] = {
    "none": {}, "dropout": {"dropout": 0.5}, "batch normalization": {"normalization": "batch"},
    "both": {"normalization": "batch", "dropout": 0.5},
    "both, in convolutions": {"normalization": "batch", "dropout": 0.5, "dropout_placement": "convolutions"}}
BASE = RECIPE.replace(normalization="none", batch_size=128, learning_rate=0.02, warmup_epochs=0.5,
                      initializer="he_normal", validation=0.04)
BASES = {2_000: BASE.replace(train_images=2_000, epochs=30), 10_000: BASE.replace(train_images=10_000, epochs=8)}


def _draw(record, figure):
    trained = figures.labels(record)
    shown = {images: [label for label in BOTH if f"{label}, {images:,} images" in trained] for images in BASES}
    sizes = [images for images in BASES if shown[images]]  # at the sample scale 2,000 only
    for panel, images in zip(figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], sizes):
        figures.by_arm(record, panel, "test_error", [f"{label}, {images:,} images" for label in shown[images]])
        panel.set_title(f"{images:,} training images")
        panel.set_yticks(range(len(shown[images])), shown[images])


STUDY = study.Study(
    name="dropout_and_batch_normalization",
    question="Dropout, batch normalization, or both: which when, and where?",
    source=NOTE,
    base=BASE,
    arms=[study.Arm(f"{label}, {images:,} images", changes, base)
          for images, base in BASES.items() for label, changes in BOTH.items()],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR],
    claims=[
        Claim("dropout-adds-nothing-to-batch-normalization", "With batch normalization and 10,000 images, dropout does "
              "not lower the test error by half a point.", NOTE, "reduce or remove dropout", "test_error",
              {"both, 10,000 images": 1, "batch normalization, 10,000 images": -1}, smallest=-0.5),
        Claim("dropout-before-batch-normalization-harms", "Dropout after the poolings, too, of which one is in front "
              "of batch normalization, raises the test error by at least half a point.", NOTE,
              "77.42% to 68.55% accuracy (DenseNet)", "test_error",
              {"both, in convolutions, 10,000 images": 1, "both, 10,000 images": -1}, smallest=0.5),
        Claim("dropout-helps-with-few-images", "Without batch normalization and with 2,000 images, dropout lowers the "
              "test error by at least half a point.", "note 000", "none", "test_error",
              {"none, 2,000 images": 1, "dropout, 2,000 images": -1}, smallest=0.5),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10"}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 12}, seeds=2, arms=tuple(f"{label}, 2,000 images" for label in BOTH)[:4]),
    },
    draw=_draw,
    size=(7.4, 3.0),
)

if __name__ == "__main__":
    study.main(STUDY)
