"""Is augmentation helpful? Each operation alone, each left out, and with more and fewer images.

The notes (000, day 10; 002; 003) list mirroring, cropping, rotation, shearing, local warping and shifts of the colours,
and say that more data "will almost always improve results". Lin et al. 2014, table 1: Network in Network goes from
10.41 to 8.81% on CIFAR-10 by translation and mirror images. Here a network with four layers is trained on 1,000,
5,000 and 45,000 images, in 1,240 to 1,872 steps; *warping* is rotation, shearing and local warping together.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.recipe import Scalar
from tfcnn.verdict import Claim

OPERATIONS = {"mirror": "mirror", "crop": "crop", "warping": "rotate:10,shear:10,elastic:4:4", "colours": "colour_pca"}
SIZES: dict[float, dict[str, Scalar]] = {
    1000: {"train_images": 1000, "epochs": 40, "batch_size": 32},
    5000: {"train_images": 5000, "epochs": 12, "batch_size": 32}, 45000: {"train_images": 45000, "epochs": 4}}
NOTES = "notes 000, day 10, 002 and 003"
PAPER = "Lin et al. 2014, table 1"


def _arm(label, operations, size=5000):
    return study.Arm(label, {"augment": ",".join(OPERATIONS[name] for name in operations) or "none", **SIZES[size]})


def _draw(record, figure):
    left, *right = figure.subplots(1, 1 + any("images" in label for label in figures.labels(record)), squeeze=False)[0]
    figures.by_arm(record, left, "test_error", [label for label in figures.labels(record) if "images" not in label])
    left.set_title(f"{record['arms'][0]['recipe']['train_images']:,} images")
    groups = {name: {size: f"{name}, {size:,} images".replace(", 5,000 images", "") for size in SIZES}
              for name in ("none", "crop and mirror")}
    for panel in right:
        figures.against(record, panel, "test_error", groups, "training images", log_x=True, ticks=True)


STUDY = study.Study(
    name="augmentation",
    question="Is augmentation helpful: which operation, and with how many images?",
    source=f"{NOTES}; {PAPER}",
    base=FOUR_LAYERS.replace(validation=0.04, dataset="cifar10"),
    arms=[
        _arm("none", ()),
        *(_arm(f"{name} alone", (name,)) for name in OPERATIONS),
        _arm("crop and mirror", ("crop", "mirror")),
        _arm("all", tuple(OPERATIONS)),
        *(_arm(f"all but {name}", tuple(other for other in OPERATIONS if other != name)) for name in OPERATIONS),
        *(_arm(f"{label}, {size:,} images", operations, size) for size in (1000, 45000)
          for label, operations in (("none", ()), ("crop and mirror", ("crop", "mirror")))),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR, measures.generalization_gap()],
    claims=[
        Claim("augmentation-helps", "Crops and mirror images lower the test error with 45,000 images, by at least half "
              "a point.", f"{NOTES}; {PAPER}", "10.41% to 8.81%", "test_error",
              {"none, 45,000 images": 1, "crop and mirror, 45,000 images": -1}, smallest=0.5),
        Claim("augmentation-helps-few-images-more", "Crops and mirror images lower the test error with 5,000 images by "
              "at least a point more than with 45,000.", NOTES, "none", "test_error",
              {"none": 1, "crop and mirror": -1, "none, 45,000 images": -1, "crop and mirror, 45,000 images": 1},
              smallest=1.0),
        Claim("mirror-alone-helps", "Mirror images alone lower the test error with 5,000 images, by at least half a "
              "point.", NOTES, "none", "test_error", {"none": 1, "mirror alone": -1}, smallest=0.5),
    ],
    scales={
        "full": study.Scale({}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"validation": 0.1}, seeds=2, arms=("none", "crop and mirror", "all"), of_arms={
            label: {"train_images": 1000, "epochs": 20} for label in ("none", "crop and mirror", "all")}),
    },
    draw=_draw,
    size=(9.0, 4.2),
)

if __name__ == "__main__":
    study.main(STUDY)
