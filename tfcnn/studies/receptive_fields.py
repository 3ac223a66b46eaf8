"""Why 3x3? Stacks of small kernels against single larger ones with the same receptive field.

The note (001, day 5) repeats section 2.3 of Simonyan and Zisserman 2015: two 3x3 convolutions see 5x5 pixels and three
see 7x7, with more nonlinearities and fewer weights. Their section 4.1 found the network with 5x5 kernels 7 points worse
(top-1 error on ImageNet). A stack is deeper, too: that is part of the claim. The small networks here have three stages
of 32, 64 and 128 channels and batch normalization; those of the right column have as many weights as the stack.

    network     parameters   equal field, other parameters    equal field and parameters
    two 3x3     307,946      one 5x5: 279,338                 one 5x5: 307,707
    three 3x3   501,930      one 7x7: 527,402                 one 7x7: 502,131

Where a stage doubles the channels from C, two 3x3 have more weights than one 5x5 (54 C^2 against 50 C^2), and three 3x3
fewer than one 7x7 (90 C^2 against 98 C^2). Ten thousand images and eight epochs are few: the study compares how much is
learnt in them.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.vgg import RECIPE
from tfcnn.verdict import Claim

COST = measures.multiply_accumulates()
PAPER = "Simonyan and Zisserman 2015, sections 2.3 and 4.1"
ARMS = {"two 3x3": "two_3x3", "one 5x5": "one_5x5", "one 5x5, equal parameters": "one_5x5_wide",
        "three 3x3": "three_3x3", "one 7x7": "one_7x7", "one 7x7, equal parameters": "one_7x7_narrow"}


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    figures.by_arm(record, left, "test_error", list(ARMS))
    figures.trade_off(record, right, COST.name, "test_error", list(ARMS), legend=False)


STUDY = study.Study(
    name="receptive_fields",
    question="Why 3x3? Is a stack of small kernels better than one larger kernel with the same receptive field?",
    source=f"note 001, day 5; {PAPER}",
    base=RECIPE.replace(dropout=0.0, learning_rate=0.1, warmup_epochs=0.5),
    arms=[study.Arm(label, {"variant": variant}) for label, variant in ARMS.items()],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR, measures.PARAMETERS, COST],
    claims=[
        Claim("stack-of-two-3x3", "Two 3x3 convolutions give a lower test error than one 5x5 convolution with as many "
              "channels, by at least a point.", f"note 001, day 5; {PAPER}", "7 points, top-1 on ImageNet",
              "test_error", {"one 5x5": 1, "two 3x3": -1}, smallest=1.0),
        Claim("stack-of-three-3x3", "Three 3x3 convolutions give a lower test error than one 7x7 convolution with as "
              "many channels, by at least a point.", f"note 001, day 5; {PAPER}", "none", "test_error",
              {"one 7x7": 1, "three 3x3": -1}, smallest=1.0),
        Claim("stack-at-equal-parameters", "Two 3x3 convolutions give a lower test error than one 5x5 convolution with "
              "as many parameters, by at least half a point.", f"note 001, day 5; {PAPER}", "none", "test_error",
              {"one 5x5, equal parameters": 1, "two 3x3": -1}, smallest=0.5),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "train_images": 10_000, "epochs": 8, "validation": 0.04}, seeds=3,
                            grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 3, "dropout": 0.0}, seeds=2, arms=(
            "two 3x3", "one 5x5", "three 3x3", "one 7x7")),
    },
    draw=_draw,
    size=(8.0, 3.2),
)

if __name__ == "__main__":
    study.main(STUDY)
