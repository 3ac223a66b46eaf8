"""Inception or ResNet? Matched in multiply-accumulates, in parameters, and in seconds.

The note (000, day 8) plans a case study of the two. Szegedy et al. 2017 (Inception-v4) find some evidence that residual
*Inception* networks outperform "similarly expensive" ones without residual connections "by a thin margin", and that
residual connections accelerate training "significantly". They do not compare ResNet with Inception, as is done here:
GoogLeNet for 32x32 images is made as narrow as the small ResNets:

    network                         multiply-accumulates   parameters   time of a step
    ResNet-20                       40.6 million           269,722      1
    ResNet-56                       125.5 million          853,018      2.8
    Inception, width 0.166          40.6 million           166,161      3.0
    Inception, width 0.212          66.1 million           269,540      4.2

The first Inception matches ResNet-20 in multiply-accumulates and ResNet-56 in seconds, the second one ResNet-20 in
parameters. Times are CPU times on one machine with two cores, to a tenth; in the recorded runs the first Inception took
22% longer than ResNet-56. All have the same schedule, penalty and
batch size.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments import inception, resnet
from tfcnn.verdict import Claim

NOTE, PAPER = "note 000, day 8", "Szegedy et al. 2017 (Inception-v4), abstract"
COSTS = [measures.multiply_accumulates(), measures.PARAMETERS, measures.SECONDS]
SAME = {"schedule": "cosine", "decay_epochs": "", "warmup_epochs": 0.5, "l2": 0.0005, "batch_size": 64}
NARROW, WIDE = "Inception, width 0.166", "Inception, width 0.212"


def _draw(record, figure):
    for number, (panel, cost) in enumerate(zip(figure.subplots(1, 3, sharey=True), COSTS)):
        figures.trade_off(record, panel, cost.name, "test_error", legend=not number)
        panel.label_outer()


STUDY = study.Study(
    name="inception_against_resnet",
    question="Inception or ResNet, at equal multiply-accumulates, parameters or seconds?",
    source=f"{NOTE}; {PAPER}",
    base=resnet.RECIPE.replace(**SAME),
    arms=[
        study.Arm("ResNet-20"),
        study.Arm("ResNet-56", {"depth": 56}),
        study.Arm(NARROW, {"width": 0.166}, base=inception.RECIPE.replace(dropout=0.0, ema=0.0, **SAME)),
        study.Arm(WIDE, {"width": 0.212}, base=inception.RECIPE.replace(dropout=0.0, ema=0.0, **SAME)),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR, *COSTS],
    claims=[
        Claim("inception-at-equal-cost", "With as many multiply-accumulates, Inception and ResNet have the same test "
              "error within one and a half points.", f"{NOTE}; {PAPER}",
              '"a thin margin" (residual against plain Inception)', "test_error", {NARROW: 1, "ResNet-20": -1},
              smallest=1.5, effect=False),
        Claim("inception-at-equal-parameters", "With as many parameters, Inception and ResNet have the same test error "
              "within one and a half points.", NOTE, "none", "test_error", {WIDE: 1, "ResNet-20": -1}, smallest=1.5,
              effect=False),
        Claim("resnet-at-equal-seconds", "In about as many seconds of training, on two cores, ResNet reaches a lower "
              "test error than Inception, by at least a point.", NOTE, "none", "test_error",
              {NARROW: 1, "ResNet-56": -1}, smallest=1.0),
    ],
    scales={
        "full": study.Scale({"train_images": 5_000, "epochs": 8, "validation": 0.04}, seeds=3,
                            grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 3, "decay_epochs": "", "image_size": 16, "crop_padding": 1}, seeds=2,
                              arms=("ResNet-20", "ResNet-56", NARROW)),
    },
    draw=_draw,
    size=(9.5, 3.2),
)

if __name__ == "__main__":
    study.main(STUDY)
