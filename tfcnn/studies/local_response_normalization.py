"""What does local response normalization do, and what else was changed in the published comparison?

The notes (001, day 4) explain it; Krizhevsky et al. 2012, section 3.3, report 13% test error on CIFAR-10 without it and
11% with it. The two published definitions (cuda-convnet's `13pct` and `11pct`) also differ in their length, in the
weight decay of the last layer and in a layer's width, and both are tested on several views of each image. Length and
views are compared here one by one; so is the weight decay, of all layers, since the suite has one for all of them. The
width, of a locally connected layer that this network lacks, is left out.

The published constants are for pixels from 0 to 255. With pixels of unit variance, as here and in TensorFlow's
tutorial, the divisor is 1 to three digits at first: that arm is expected to do little. (In cuda-convnet it begins at 1,
too, because the first weights are small.) In another arm alpha is 64 squared times as large: at the start the divisor
has a median of 3.7 in the first layer, 1.1 in the second.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.alexnet import FOUR_LAYERS
from tfcnn.verdict import Claim

PAPER = "note 001, day 4; Krizhevsky et al. 2012, section 3.3"
PUBLISHED = {"normalization": "local_response"}
FOR_PIXELS = {"normalization": "local_response_pixels"}
VIEWS = measures.test_error_with("shift")


def _draw(record, figure):
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    figures.by_arm(record, left, "test_error")
    figures.by_arm(record, right, VIEWS.name)


STUDY = study.Study(
    name="local_response_normalization",
    question="What does local response normalization do, beside length, weight decay and several views?",
    source=PAPER,
    base=FOUR_LAYERS.replace(augment="standard"),
    arms=[
        study.Arm("none"),
        study.Arm("response normalization", FOR_PIXELS),
        study.Arm("response normalization, published constants", PUBLISHED),
        study.Arm("batch normalization", {"normalization": "batch", "learning_rate": 0.05}),
        study.Arm("none, twice as long", {"epochs": 12}),
        study.Arm("none, twice the decay", {"l2": 0.001}),
    ],
    measures=[measures.TEST_ERROR, VIEWS, measures.TRAIN_ERROR],
    claims=[
        Claim("response-normalization-helps", "Local response normalization, with an alpha 4,096 times the published "
              "one, for pixels of unit variance, lowers the test error by at least half a point.", PAPER, "13% to 11%",
              "test_error", {"none": 1, "response normalization": -1}, smallest=0.5),
        Claim("published-constants-need-published-pixels", "With the published constants and pixels of unit variance, "
              "local response normalization changes the test error by less than a point.", "asked here", "none",
              "test_error", {"none": 1, "response normalization, published constants": -1}, smallest=1.0,
              effect=False),
        Claim("batch-beats-response-normalization", "Batch normalization lowers the test error by at least half a "
              "point more than local response normalization.", "asked here", "none", "test_error",
              {"response normalization": 1, "batch normalization": -1}, smallest=0.5),
        Claim("length-helps", "Without normalization, twice as many epochs lower the test error by at least half a "
              "point.", PAPER, "none", "test_error", {"none": 1, "none, twice as long": -1}, smallest=0.5),
    ],
    scales={
        "full": study.Scale(study.BUDGET, seeds=4, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 6}, seeds=2,
                              arms=("none", "response normalization", "batch normalization")),
    },
    draw=_draw,
    size=(7.4, 3.4),
)

if __name__ == "__main__":
    study.main(STUDY)
