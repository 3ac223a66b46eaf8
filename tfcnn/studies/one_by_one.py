"""Does shrinking the channels by 1x1 convolutions hurt? Inception modules with and without their reductions.

Note 002 asks: "Does shrinking down the number of channel dramatically hurt the performance? - It doesn't
seem to hurt", and counts a tenth of the multiplications for the 5x5 branch of Szegedy et al. 2015 (section 4; figure 2a
is the module without reductions). Here GoogLeNet for 32x32 images has a quarter of its channels:

    network                       width   multiply-accumulates   parameters
    with 1x1                      0.25    91.4 million           372,578
    without 1x1                   0.25    323.6 million          1,516,146
    without 1x1, equal cost       0.1325  89.1 million           420,995

So the whole network costs 3.5 times as much without them, not ten times. The third arm spends the same on wider 3x3 and
5x5 convolutions that see few channels, as the first does on reduced ones. 5,000 images and six epochs are few.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.inception import RECIPE
from tfcnn.verdict import Claim

COST = measures.multiply_accumulates()
NOTES, PAPER = "notes 002 and 003", "Szegedy et al. 2015, section 4"


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    figures.by_arm(record, left, "test_error")
    figures.trade_off(record, right, COST.name, "test_error", legend=False)


STUDY = study.Study(
    name="one_by_one",
    question="Does shrinking the channels by 1x1 convolutions hurt?",
    source=f"{NOTES}; {PAPER}",
    base=RECIPE.replace(width=0.25, dropout=0.0, ema=0.0, warmup_epochs=0.5, batch_size=64),
    arms=[
        study.Arm("with 1x1"),
        study.Arm("without 1x1", {"reductions": False}),
        study.Arm("without 1x1, equal cost", {"reductions": False, "width": 0.1325}),
    ],
    measures=[measures.TEST_ERROR, measures.TRAIN_ERROR, COST, measures.SECONDS],
    claims=[
        Claim("reductions-do-not-hurt", "Inception modules with 1x1 reductions have the same test error as without "
              "them, within one and a half points.", f"note 002; {PAPER}", '"It doesn\'t seem to hurt"', "test_error",
              {"with 1x1": 1, "without 1x1": -1}, smallest=1.5, effect=False),
        Claim("reductions-at-equal-cost", "With as many multiply-accumulates, reduced modules have a lower test error "
              "than narrower ones without reductions, by at least half a point.", PAPER, "none", "test_error",
              {"without 1x1, equal cost": 1, "with 1x1": -1}, smallest=0.5),
        Claim("reductions-save-seconds", "Without the reductions training takes at least twice as long.",
              f"{NOTES}; {PAPER}", "10 times (multiplications of one 5x5 branch)", "seconds",
              {"without 1x1": 1, "with 1x1": -1}, smallest=2.0, ratio=True),
    ],
    scales={
        "full": study.Scale({"train_images": 5_000, "epochs": 6, "validation": 0.04}, seeds=3,
                            grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 3}, seeds=2),
    },
    draw=_draw,
    size=(8.5, 2.8),
)

if __name__ == "__main__":
    study.main(STUDY)
