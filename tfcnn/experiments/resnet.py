"""ResNet with 20, 32, 44, 56 or 110 layers for CIFAR-10: residual networks, their shortcuts, and plain networks.

Source: He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition", section 4.2.
Command: python -m tfcnn.experiments.resnet --depth=56
Target: 0.9125 / 0.9249 / 0.9283 / 0.9303 / 0.9357 with 20 / 32 / 44 / 56 / 110 layers and the paper's shortcuts, on
CIFAR-10's original pixels (errors of 8.75 / 7.51 / 7.17 / 6.97 / 6.43% in table 6, whose networks may have learnt from
the validation images as well: --validation=0 --epochs=164 --decay_epochs=82,123 is the same number of steps). Depth 110
needs a warm-up: the paper trains at a rate of 0.01 until the training error is below 80%, about 400 steps; with
--warmup_epochs=1.2 the rate rises over as many steps.
With --preset=fast --validation=0, 60 epochs at a rate that rises and falls once: 0.914 is the goal with 20 layers. With
--preset=resnet18 --validation=0, the wide network with 18 layers, 16 epochs: 0.94 is the goal (0.929 was reached).
Expected time on two CPU cores, from 470 images/s: on CIFAR-10 five hours with 20 layers, 15 with 56, 30 with 110, 30 to
40 with --depth=18; eight minutes on the sample, the substitute where CIFAR-10 is not available. On cores that multiply
bfloat16: half an hour to an hour and a half with --preset=fast, an hour and a half to two and a half with
--preset=resnet18.
"""

from tfcnn import cli
from tfcnn.networks.options import choose
from tfcnn.recipe import Presets, Recipe

RECIPE = Recipe(
    experiment="resnet",
    network="resnet",
    options=choose(
        "resnet",
        depth=20,
        stem="3x3",
        shortcut="paper",
        normalization="batch",
        activation="relu",
        initializer="paper",
    ),
    dataset="cifar10",
    validation=0.1,  # section 4.2: "a 45k/5k train/val split"
    crop_padding=4,  # section 4.2: "4 pixels are padded on each side", a random crop, mirrored or not
    epochs=182,  # section 4.2: 64k iterations, 351 an epoch
    batch_size=128,  # section 4.2
    optimizer="momentum",
    momentum=0.9,  # section 4.2
    learning_rate=0.1,  # section 4.2
    schedule="step",
    decay_epochs="91,137",  # section 4.2: divided by 10 at 32k and 48k iterations
    decay_rate=0.1,
    l2=0.0001,  # section 4.2
)
SAMPLE = {"epochs": 40, "decay_epochs": "20,30", "crop_padding": 2}
PRESETS: Presets = {
    "fast": {"augment": "crop,alternating_mirror", "epochs": 60, "optimizer": "nesterov", "learning_rate": 0.2,
             "schedule": "one_cycle", "decay_epochs": "", "l2": 0.001, "precision": "bfloat16"},
    "resnet18": {"depth": 18, "augment": "crop,alternating_mirror", "epochs": 16, "optimizer": "nesterov",
                 "learning_rate": 0.2, "schedule": "one_cycle", "decay_epochs": "", "l2": 0.0005,
                 "label_smoothing": 0.1, "precision": "bfloat16"},
}

if __name__ == "__main__":
    cli.run(RECIPE, sample=SAMPLE, presets=PRESETS)
