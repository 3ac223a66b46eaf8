"""Network in Network for CIFAR-10: perceptrons that slide over the image, and an average instead of a dense layer.

Source: Lin, Chen and Yan 2014, "Network in network"; what it leaves open is from the network that its authors released.
Command: python -m tfcnn.experiments.network_in_network
Target: 0.9119 on CIFAR-10's original pixels; 0.8959 without augmentation, --noaugment (Lin et al., table 1). With
--preset=fast --validation=0, 40 epochs with batch normalization at a rate that rises and falls once, 0.905 is the goal.
Expected time on two CPU cores, from 110 images/s: 30 hours on CIFAR-10; ten minutes on the sample, the substitute where
CIFAR-10 is not available. With --preset=fast, on cores that multiply bfloat16: an hour to two hours.
"""

from tfcnn import cli
from tfcnn.networks.options import choose
from tfcnn.recipe import Presets, Recipe

RECIPE = Recipe(
    experiment="network_in_network",
    network="network_in_network",
    options=choose(
        "network_in_network",
        normalization="none",
        activation="relu",
        dropout=0.5,  # section 4.1
        initializer="paper",
    ),
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
SAMPLE = {"epochs": 12, "batch_size": 64, "schedule": "cosine", "crop_padding": 2}

PRESETS: Presets = {
    "fast": {"normalization": "batch", "dropout": 0.0, "initializer": "he_normal", "epochs": 40,
             "augment": "crop,alternating_mirror", "optimizer": "nesterov", "learning_rate": 0.1,
             "schedule": "one_cycle", "decay_epochs": "", "l2": 0.0005, "label_smoothing": 0.1,
             "precision": "bfloat16"},
}

if __name__ == "__main__":
    cli.run(RECIPE, sample=SAMPLE, presets=PRESETS)
