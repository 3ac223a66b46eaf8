"""What does batch normalization give: a lower loss, faster, at a higher learning rate?

Note 000 shows a residual network's loss with and without it: it "enables faster training". Ioffe and Szegedy 2015,
section 4.2, reach Inception's accuracy in less than half of the steps at the same learning rate, and 14 times faster at
five times the rate; at 30 times the rate the final accuracy is highest. Here it is ResNet-20, whose blocks without
normalization start as the identity. The note's own network, ResNet-18, needs fourteen times the arithmetic: it is
trained with one seed, for the note's figure, and no claim is made of it.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.resnet import RECIPE
from tfcnn.verdict import Claim

PAPER = "note 000; Ioffe and Szegedy 2015, section 4.2"
RATES = (0.025, 0.1, 0.4, 1.6)
STEPS, ERROR = measures.steps_to_loss(1.5), measures.TRAIN_ERROR_OR_CHANCE
WITH, WITHOUT = "with, rate 0.1", "without, rate 0.1"  # the rate of the network's paper
RESNET_18 = {"ResNet-18, with": "batch", "ResNet-18, without": "none"}


def _draw(record, figure):
    left, middle, right = figure.subplots(1, 3)
    for panel, title, arms in ((left, "ResNet-20", (WITH, WITHOUT)), (middle, "ResNet-18", tuple(RESNET_18))):
        panel.set_title(title)
        figures.curves(record, panel, "loss", arms)
    right.set_title("ResNet-20")
    groups = {name: {rate: f"{name}, rate {rate:g}" for rate in RATES} for name in ("with", "without")}
    figures.against(record, right, ERROR.name, groups, "learning rate", log_x=True)


STUDY = study.Study(
    name="batch_normalization",
    question="What does batch normalization give?",
    source=PAPER,
    base=RECIPE.replace(schedule="cosine", decay_epochs="", warmup_epochs=0.5, train_images=10_000),
    arms=[
        study.Arm(f"{name}, rate {rate:g}", {"normalization": value, "learning_rate": rate})
        for name, value in (("with", "batch"), ("without", "none")) for rate in RATES
    ] + [study.Arm(label, {"depth": 18, "normalization": value, "epochs": 5}, seeds=1)
         for label, value in RESNET_18.items()],
    measures=[measures.TRAIN_LOSS, STEPS, ERROR, measures.TEST_ERROR],
    claims=[
        Claim("batch-normalization-lowers-the-loss", "At the paper's learning rate the training loss after the same "
              "number of steps is lower with batch normalization, by at least 0.1.", PAPER,
              "lower loss (the note's figure)", "train_loss", {WITHOUT: 1, WITH: -1}, smallest=0.1),
        Claim("batch-normalization-is-faster", "At the paper's learning rate a training loss of 1.5 takes at most half "
              "as many steps with batch normalization.", PAPER, "2.3 times fewer, 14 times at five times the rate",
              STEPS.name, {WITHOUT: 1, WITH: -1}, smallest=2.0, ratio=True),
        Claim("batch-normalization-allows-higher-rates", "At a learning rate of 0.4, four times the paper's, the "
              "training error is at least ten points lower with batch normalization; a network that diverges counts as "
              "chance.", PAPER, "30 times the rate", ERROR.name, {"without, rate 0.4": 1, "with, rate 0.4": -1},
              smallest=10.0),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "epochs": 6}, seeds=3),
        "sample": study.Scale({"epochs": 6, "train_images": 3_000}, seeds=2, arms=(WITH, WITHOUT, "with, rate 0.4")),
    },
    draw=_draw,
    size=(10.5, 3.2),
)

if __name__ == "__main__":
    study.main(STUDY)
