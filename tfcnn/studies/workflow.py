"""Note 004's process: overfit ten images, search, train, and only then regularize. Is that order better?

With --experiment=NAME this runs the process itself on an experiment's network: ten images, a learning-rate range test,
a search of learning rate and weight decay on 1,000 images, all images, and regularization, with a verdict on each. Its
result is workflow-NAME/ in the work folder.

Without, it tests a narrower statement than the note's: "If you start with a complex model with data augmentation and
regularization you'll never be able to tune the hyperparameters and find a good solution." AlexNet is fitted without
regularization and then trained on with dropout, weight decay and augmentation; or it has them from the start, in as
many epochs altogether; or never. The learning rate of each is tuned in the same way.
"""

from tfcnn import console, exit_status, figures, measures, study, workflow
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.recipe import Scalar, UsageError
from tfcnn.verdict import Claim

NOTE = "note 004"
PLAIN: dict[str, Scalar] = {"augment": "none", "l2": 0.0, "dropout": 0.0}
REGULARIZED: dict[str, Scalar] = {"augment": "standard", "l2": 0.0005, "dropout": 0.5}
FIRST, THEN, START, NEVER = "first plain", "then regularized", "regularized from the start", "never regularized"


def _draw(record, figure):
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    figures.by_arm(record, left, "test_error", [THEN, START, NEVER])
    runs = {arm["label"]: arm["runs"] for arm in record["arms"]}
    first = {run["seed"]: run["curves"] for run in runs.get(FIRST, [])}
    whole = [run | {"curves": {name: [*first[run["seed"]][name], *curve] for name, curve in run["curves"].items()}}
             for run in runs.get(THEN, [])]
    arms = [arm | {"runs": whole} if arm["label"] == THEN else arm for arm in record["arms"]]
    figures.curves({**record, "arms": arms}, right, "validation_accuracy", [THEN, START, NEVER])


STUDY = study.Study(
    name="workflow",
    question="Is it better to fit a network without regularization first, and to regularize then?",
    source=NOTE,
    base=RECIPE.replace(normalization="none"),
    arms=[
        study.Arm(FIRST, PLAIN | {"epochs": 4}),
        study.Arm(THEN, REGULARIZED | {"epochs": 4}, starts_from=FIRST),
        study.Arm(START, REGULARIZED | {"epochs": 8}),
        study.Arm(NEVER, PLAIN | {"epochs": 8}),
    ],
    measures=[measures.TEST_ERROR, measures.TEST_LOSS, measures.generalization_gap()],
    claims=[
        Claim("regularize-later", "A network that is regularized only after it was fitted has a lower test error than "
              "one that is regularized from the start, in equal epochs, by at least half a point.", NOTE, "none",
              "test_error", {START: 1, THEN: -1}, smallest=0.5),
        Claim("regularization-after-fitting", "Regularizing in the second half of training lowers the test error by at "
              "least a point.", NOTE, "none", "test_error", {NEVER: 1, THEN: -1}, smallest=1.0),
    ],
    scales={
        "full": study.Scale({"train_images": 10_000}, seeds=3, grid=(0.5, 1, 2)),
        "sample": study.Scale({}, seeds=2, of_arms={
            FIRST: {"epochs": 3}, THEN: {"epochs": 3}, START: {"epochs": 6}, NEVER: {"epochs": 6}}),
    },
    draw=_draw, size=(8.0, 3.0),
)


def _command(arguments):
    if not arguments.experiment:
        return study.command(STUDY, arguments)
    if arguments.seeds is not None:
        raise UsageError("--seeds does not go with --experiment: leave out one of the two")
    return study.command(STUDY, arguments, lambda one, scale, seeds, jobs, data_dir, workdir: workflow.process(
        arguments.experiment, scale, jobs, data_dir, workdir))


def _parser():
    parser = study.parser_of(STUDY)
    parser.add_argument("--experiment", default="", metavar="NAME",
                        help="run the process on this experiment's network, such as lenet5, instead of the study")
    return parser


if __name__ == "__main__":
    exit_status.end_process(lambda: console.run(_parser(), _command))
