"""How deep? Plain and residual networks with 20 and 56 layers, and three kinds of shortcuts.

The notes (000, day 10; 002; 003) say that very deep plain networks are difficult to train, and that shortcuts help or
do no harm. He et al. 2016, section 4.2: of plain networks the deeper one has the higher training error, too, so that it
is not overfitting; with shortcuts the deeper one is better. Li, Xu, Taylor, Studer and Goldstein 2018 give the test
errors of both kinds: 7.37 and 8.18% with 20 layers, 5.89 and 13.31% with 56. Where the dimensions change, shortcut A
has no weights, B is a projection; C is a projection everywhere (section 4.1, table 3: small differences, "not
essential").

Six epochs of 10,000 images are less than a hundredth of the paper's training: what is compared is how fast depth hurts
a plain network and not a residual one, not the errors after full training. The full scale takes an hour on two cores; a
batch of 64 gives twice as many steps as the paper's.
"""

from tfcnn import figures, measures, study
from tfcnn.experiments.resnet import RECIPE
from tfcnn.verdict import Claim

PAPER = "He et al. 2016, section 4.2 and figure 6"
PUBLISHED = ("test errors 8.18% (20 layers) and 13.31% (56) plain, 7.37% and 5.89% residual "
             "(Li, Xu, Taylor, Studer and Goldstein 2018)")
SHORTCUTS = ("residual, 20 layers", "20 layers, shortcuts B", "20 layers, shortcuts C")
PLAIN, RESIDUAL = {"shortcut": "none"}, {"shortcut": "A"}


def _draw(record, figure):
    shortcuts = [label for label in SHORTCUTS if label in figures.labels(record)]
    left, middle, *right = figure.subplots(1, 2 + (len(shortcuts) > 1))
    main = ["plain, 20 layers", "plain, 56 layers", "residual, 20 layers", "residual, 56 layers"]
    figures.curves(record, left, "accuracy", main)
    groups = {name: {float(depth): f"{name}, {depth} layers" for depth in (20, 56)} for name in ("plain", "residual")}
    figures.against(record, middle, "test_error", groups, "layers", ticks=True)
    if right:
        figures.by_arm(record, right[0], "test_error", shortcuts)


STUDY = study.Study(
    name="depth",
    question="How deep? Does depth hurt a plain network, and not a residual one?",
    source=f"notes 000, day 10, 002 and 003; {PAPER}",
    base=RECIPE.replace(schedule="cosine", decay_epochs="", warmup_epochs=0.5, batch_size=64),
    arms=[
        study.Arm("plain, 56 layers", PLAIN | {"depth": 56}),
        study.Arm("plain, 20 layers", PLAIN),
        study.Arm("residual, 56 layers", RESIDUAL | {"depth": 56}),
        study.Arm("residual, 20 layers", RESIDUAL),
        study.Arm("20 layers, shortcuts B", {"shortcut": "B"}),
        study.Arm("20 layers, shortcuts C", {"shortcut": "C"}),
    ],
    measures=[measures.TRAIN_ERROR, measures.TEST_ERROR, measures.SECONDS],
    claims=[
        Claim("deep-plain-trains-worse", "A plain network with 56 layers has a higher training error than one with 20, "
              "by at least two points.", f"notes 002 and 003; {PAPER}", PUBLISHED, "train_error",
              {"plain, 56 layers": 1, "plain, 20 layers": -1}, smallest=2.0),
        Claim("shortcuts-remove-the-degradation", "The test error that 36 more layers cost a plain network is larger "
              "than what they cost a residual one, by at least two points.", f"notes 002 and 003; {PAPER}", PUBLISHED,
              "test_error", {"plain, 56 layers": 1, "plain, 20 layers": -1, "residual, 56 layers": -1,
                             "residual, 20 layers": 1}, smallest=2.0),
        Claim("projections-are-not-essential", "Projections in all shortcuts change the test error of 20 layers by "
              "less than one and a half points.", "He et al. 2016, section 4.1 and table 3",
              "top-1 on ImageNet, 34 layers: A 25.03%, C 24.19%", "test_error",
              {"residual, 20 layers": 1, "20 layers, shortcuts C": -1}, smallest=1.5, effect=False),
    ],
    scales={
        "full": study.Scale({"dataset": "cifar10", "train_images": 10_000, "epochs": 6}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({"epochs": 2, "decay_epochs": ""}, seeds=2, arms=(
            "plain, 20 layers", "plain, 56 layers", "residual, 20 layers", "residual, 56 layers")),
    },
    draw=_draw,
    size=(11.0, 3.2),
)

if __name__ == "__main__":
    study.main(STUDY)
