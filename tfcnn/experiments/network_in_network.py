"""Network in Network for CIFAR-10: perceptrons that slide over the image, and an average for a dense layer.

Source: Lin, Chen and Yan 2014, "Network in network"; what it does not give is of the definition its authors released.
Command: python -m tfcnn.experiments.network_in_network
Target: 0.9119 on CIFAR-10's own pixels; 0.8959 without augmentation, --noaugment (Lin et al., table 1).
Expected time on two CPU cores, estimated: five minutes on the sample, which is trained on where CIFAR-10 cannot be
had; thirteen hours on CIFAR-10.
"""

from tfcnn import cli, networks
from tfcnn.recipe import Option, Recipe

RECIPE = Recipe(
    experiment="network_in_network",
    network="network_in_network",
    options={
        "normalization": Option("none", ("none", "batch"), "what normalizes activations"),
        "activation": Option("relu", networks.ACTIVATIONS, "activation function"),
        "dropout": Option(0.5, help="share of the activations dropped after each of the two poolings"),  # section 4.1
        "initializer": Option("paper", networks.INITIALIZERS, "first values of the weights"),
    },
    dataset="cifar10",
    epochs=260,
    batch_size=128,  # section 4.1
    optimizer="momentum",
    momentum=0.9,  # released
    learning_rate=0.05,  # released: 0.1, and for the last convolution, which has a ReLU there, a tenth of that
    schedule="step",  # to a tenth "until the final learning rate is one percent of the initial value": section 4.1
    decay_epochs="200,230",  # README of github.com/mavenlin/cuda-convnet
    l2=0.0001,  # released
)

if __name__ == "__main__":
    cli.run(RECIPE, on_sample={"epochs": 12, "batch_size": 64, "schedule": "cosine", "crop_padding": 2})
