"""Ensembles and multi-crop: what do they give, and what do they cost?

The notes (002, 003) name two tips for benchmarks that are "rarely used in real production": "train several networks
independently and average their outputs", and "run classifier on multiple versions of test images and average results".
Krizhevsky et al. 2012, section 6, footnote 5: ten crops take AlexNet from 39.0 to 37.5% top-1 error on ImageNet. The
uncertainty-baselines project: four Wide ResNets on CIFAR-10 go from 96.0 to 96.6% accuracy, and their calibration
error from 2.3 to 1.0 points. Here: one to five networks with four layers that differ in their seed, alone, with the
mirror image of each test image, with nine shifts of two pixels, and with ten crops. The seed also draws each network's
training images, so several have seen more different images than one. Networks that were trained briefly are hardly
overconfident: what averaging does to their calibration is open.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.verdict import Claim

NOTES = "notes 002 and 003"
ERROR, CALIBRATION, COST = measures.ensemble_error(), measures.calibration_error(), measures.multiply_accumulates()
VIEWS = {"mirror": "and mirror image", "shift": "nine shifts", "ten_crop": "ten crops"}
ARMS = {number: f"{number} network{'s' if number > 1 else ''}" for number in range(1, 6)}


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    names = {ERROR.name: "one view"} | {f"test_error_{kind}": name for kind, name in VIEWS.items()}
    figures.measures_against(record, left, names, ARMS, "networks (each costs as much as the first)", "test error, %")
    figures.measures_against(record, right, {CALIBRATION.name: "one view"}, ARMS, "networks",
                             CALIBRATION.title)


STUDY = study.Study(
    name="ensembles",
    question="What do ensembles and several views of a test image give, and what do they cost?",
    source=f"{NOTES}; Krizhevsky et al. 2012, section 6",
    base=FOUR_LAYERS.replace(augment="standard"),
    arms=[study.Arm(label, members=number) for number, label in ARMS.items()],
    measures=[ERROR, *(measures.test_error_with(kind) for kind in VIEWS), measures.gain_by("ten_crop"), CALIBRATION,
              COST, measures.RUN_SECONDS],
    claims=[
        Claim("ensemble-of-five", "The mean of five networks has a lower test error than one network, by at least a "
              "point.", f"{NOTES}; uncertainty-baselines", "4.0% to 3.4% (four Wide ResNets)", ERROR.name,
              {"1 network": 1, "5 networks": -1}, smallest=1.0),
        Claim("ensemble-is-better-calibrated", "The mean of five networks has a lower calibration error than one "
              "network, by at least half a point.", "uncertainty-baselines", "2.3 to 1.0 points (four Wide ResNets)",
              CALIBRATION.name, {"1 network": 1, "5 networks": -1}, smallest=0.5),
        Claim("ten-crops", "Ten crops of each test image lower one network's test error by at least half a point.",
              f"{NOTES}; Krizhevsky et al. 2012, section 6, footnote 5", "39.0% to 37.5% (top-1 on ImageNet)",
              "gain_by_ten_crop", {"1 network": 1}, smallest=0.5),
    ],
    scales={
        "full": study.Scale(study.BUDGET, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 3}, seeds=2, arms=("1 network", "2 networks", "3 networks")),
    },
    draw=_draw,
    size=(8.5, 3.4),
)

if __name__ == "__main__":
    study.main(STUDY)
