"""A study that takes seconds, in a module of its own, so that its command starts as quickly as a real one's."""

from tfcnn import figures, measures, study
from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.verdict import Claim

TOY = study.Study(
    name="toy", question="Does a higher learning rate train faster?", source="this test",
    base=RECIPE.replace(batch_size=256, variant="modern", train_images=1024),
    arms=[study.Arm("low"), study.Arm("high", {"learning_rate": 0.05}),
          study.Arm("infinite", {"learning_rate": 1e30, "activation": "relu"})],
    measures=[measures.TEST_ERROR, measures.TRAIN_LOSS, measures.SECONDS],
    claims=[Claim("name", "A low rate leaves a larger loss.", "a paper", "none", "train_loss", {"low": 1, "high": -1},
                  smallest=0.0, seeds=2)],
    scales={"sample": study.Scale({"epochs": 1}, seeds=1), "full": study.Scale({"epochs": 1}, seeds=1)},
    draw=lambda record, figure: figures.by_arm(record, figure.subplots(), "test_error"))

if __name__ == "__main__":
    study.main(TOY)
