"""How far can we go without convolution? Wide rectifiers and linear bottlenecks in turn, on CIFAR-10.

Source: Lin, Memisevic, Konda 2015, "How far can we go without convolution: improving fully-connected networks", and the
authors' code, github.com/hantek/zlinnet.
Command: python -m tfcnn.experiments.mlp
Target: 0.696 on CIFAR-10's own pixels without, 0.786 with deformed images (--variant=bottleneck_short --augment), both
after unsupervised training of each layer on whitened images, which is left out here.
Expected time on two CPU cores, estimated: three minutes on the sample, which is trained on where CIFAR-10 cannot be
had; three hours on CIFAR-10.
"""

from tfcnn import cli, networks
from tfcnn.recipe import Option, Recipe

RECIPE = Recipe(
    experiment="mlp",
    network="mlp",
    options={
        "variant": Option("bottleneck", ("bottleneck", "bottleneck_short", "plain", "fashion"),
                          "seven hidden layers, every other linear and narrow; three of these; four of 1,000 "
                          "rectifiers; or 256-128-100 for 28x28 grey pixels"),
        "normalization": Option("paper", ("paper", "layer", "batch", "none"),
                                "what normalizes activations; paper: layer in the bottleneck networks"),
        "activation": Option("relu", networks.ACTIVATIONS, "activation function"),
        "dropout": Option(0.1, help="share of the values dropped before each layer"),  # the authors' code
        "initializer": Option("paper", networks.INITIALIZERS, "first values of the weights"),
    },
    dataset="cifar10",
    augment="none",  # what is learnt does not depend on the order of the pixels
    epochs=100,
    batch_size=100,  # the authors' code
    optimizer="momentum",
    momentum=0.9,  # the authors' code
    learning_rate=0.005,  # the authors' code, in the supervised training
    schedule="cosine",
)

if __name__ == "__main__":
    cli.run(RECIPE, on_sample={"epochs": 12})
