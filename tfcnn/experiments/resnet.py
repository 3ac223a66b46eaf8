"""ResNet-20, or 32, 44, 56, 110 layers, for CIFAR-10: residual networks, their shortcuts, and plain networks without.

Source: He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition", section 4.2.
Command: python -m tfcnn.experiments.resnet --depth=56 --shortcut=B
Target: 0.9125 / 0.9249 / 0.9283 / 0.9303 / 0.9357 with 20 / 32 / 44 / 56 / 110 layers and the paper's shortcuts, on
CIFAR-10's own pixels (errors of 8.75 / 7.51 / 7.17 / 6.97 / 6.43% in table 6, whose networks may have learnt from the
validation images too: --validation=0 --epochs=164 --decay_epochs=82,123 are as many steps). Depth 110 has to be warmed
up: the paper has a rate of 0.01 until the training error is below 80%, for about 400 steps; with --warmup_epochs=1.2
the rate rises over as many.
Expected time on two CPU cores, estimated: four minutes on the sample, which is trained on where CIFAR-10 cannot be had;
on CIFAR-10 two hours with 20 layers, six with 56, half a day with 110, a day and more with --depth=18.
"""

from tfcnn import cli, networks
from tfcnn.recipe import Option, Recipe

RECIPE = Recipe(
    experiment="resnet",
    network="resnet",
    options={
        "depth": Option(20, (20, 32, 44, 56, 110, 18, 34, 50, 101, 152),
                        "layers with weights: 20 to 110 in three stages for small images, 18 to 152 in four"),
        "stem": Option("3x3", ("3x3", "7x7"), "first convolution: 3x3 for small images, 7x7 and pooling for large"),
        "shortcut": Option("paper", ("paper", "A", "B", "C", "none"),
                           "A: identity, padded with zeros where dimensions change; B: projections there; "
                           "C: projections everywhere; none: the plain network; paper: A in three stages, B in four"),
        "normalization": Option("batch", ("batch", "none"), "what normalizes activations; see networks/resnet.py"),
        "activation": Option("relu", networks.ACTIVATIONS, "activation function"),
        "initializer": Option("paper", networks.INITIALIZERS, "first values of the weights"),
    },
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

if __name__ == "__main__":
    cli.run(RECIPE, on_sample={"epochs": 40, "decay_epochs": "20,30", "crop_padding": 2})
