"""Can a network without convolution score high, by bottlenecks?

The note (004) says: "You can achieve high scores on CIFAR 10 without convolution if you use bottling layers." It names
no source; it may mean Lin, Memisevic and Konda 2015, whose bottleneck networks reach 30.4% error, and 21.4% with
deformed images, after unsupervised pre-training, which is left out here. Plain and bottleneck networks have four layers
of rectifiers and 1.9 million parameters. Bottleneck networks also normalize each image's activations: the plain network
is tried with that, too; it still differs in biases, initialization and the dropout of pixels. The convolutional network
beside them, AlexNet for CIFAR, has 1.8 million parameters. It costs 17 times as many multiply-accumulates, and so it
has fewer epochs.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments import alexnet
from tfcnn.experiments.mlp import RECIPE
from tfcnn.verdict import Claim

PAPER = "Lin, Memisevic and Konda 2015"
DEFORMED = {"augment": "mirror,translate:2,rotate:10,zoom:0.1"}
PLAIN, BOTTLENECK = {"variant": "plain_small", "normalization": "layer"}, {"variant": "bottleneck_small"}


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    figures.by_arm(record, left, "test_error")
    figures.by_arm(record, right, "train_error")
    right.set_yticklabels([])


STUDY = study.Study(
    name="without_convolution",
    question="Can a network without convolution score high on CIFAR-10, by bottlenecks?",
    source=f"note 004; {PAPER}",
    base=RECIPE.replace(warmup_epochs=1.0),
    arms=[
        study.Arm("plain", {"variant": "plain_small"}),
        study.Arm("plain, normalized", PLAIN),
        study.Arm("bottlenecks", BOTTLENECK),
        study.Arm("plain, normalized, deformed images", PLAIN | DEFORMED),
        study.Arm("bottlenecks, deformed images", BOTTLENECK | DEFORMED),
        study.Arm("AlexNet, crops and mirror images", {"epochs": 6}, base=alexnet.RECIPE),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR, measures.SECONDS, measures.PARAMETERS],
    claims=[
        Claim("bottlenecks-help", "Linear bottlenecks lower the test error of a network without convolutions, at equal "
              "parameters and equally normalized, by at least a point.", f"note 004; {PAPER}", "none", "test_error",
              {"plain, normalized": 1, "bottlenecks": -1}, smallest=1.0),
        Claim("deformed-images-without-convolution", "Deformed images lower the bottleneck network's test error by at "
              "least three points.", f"note 004; {PAPER}", "30.4% to 21.4% (pre-trained)", "test_error",
              {"bottlenecks": 1, "bottlenecks, deformed images": -1}, smallest=3.0),
        Claim("as-good-as-convolution", "With bottlenecks and deformed images a network without convolutions comes "
              "within five points of the test error of a small convolutional network with as many parameters.",
              f"note 004; {PAPER}", "none", "test_error",
              {"bottlenecks, deformed images": 1, "AlexNet, crops and mirror images": -1}, smallest=5.0, effect=False),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "train_images": 20_000, "epochs": 20}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 12}, seeds=2, arms=(
            "plain, normalized", "bottlenecks", "bottlenecks, deformed images")),
    },
    draw=_draw,
    size=(9.0, 3.2),
)

if __name__ == "__main__":
    study.main(STUDY)
