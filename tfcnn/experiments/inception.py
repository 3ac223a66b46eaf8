"""GoogLeNet for 32x32 images on CIFAR-10: inception modules with true 5x5 branches, batch normalization.

Source: Szegedy et al. 2015, "Going deeper with convolutions", table 1 from inception (3a) on.
Command: python -m tfcnn.experiments.inception
Target: 0.9285 on CIFAR-10's original pixels (huyvnphan's PyTorch_CIFAR10, after the same number of epochs, with 3x3
kernels instead of 5x5). None is known for the sample, the substitute where CIFAR-10 is not available. With
--preset=fast --validation=0, 10 epochs at a rate that rises and falls once: 0.915 is the goal.
Expected time on two CPU cores, from 19 to 25 images/s: 30 to 40 minutes an epoch on CIFAR-10, two to three days in
all; six minutes on the sample, whose images are reduced to 16x16. With --preset=fast, on cores that multiply bfloat16:
two to four hours.
The paper's own network: --variant=googlenet --auxiliary --dropout=0.4 --image_size=224.
"""

from tfcnn import cli
from tfcnn.networks.options import choose
from tfcnn.recipe import Presets, Recipe

RECIPE = Recipe(
    experiment="inception",
    network="inception",
    options=choose(
        "inception",
        variant="cifar",
        auxiliary=False,
        normalization="paper",
        activation="relu",
        dropout=0.2,
        initializer="paper",
        reductions=True,
        width=1.0,
    ),
    dataset="cifar10",
    epochs=100,
    batch_size=128,
    optimizer="momentum",
    momentum=0.9,  # section 6
    learning_rate=0.1,
    schedule="cosine",  # section 6 lowers the rate by 4% every 8 epochs, too slowly for 100 epochs
    warmup_epochs=1.0,
    l2=0.0005,
    ema=0.99,  # section 6: Polyak averaging
    auxiliary_weight=0.3,  # section 5
)
# Four epochs at a quarter of the pixels take as long as one epoch at all of them.
SAMPLE = {"epochs": 4, "image_size": 16, "crop_padding": 1, "ema": 0.0}

PRESETS: Presets = {
    "fast": {"epochs": 10, "augment": "crop,alternating_mirror", "optimizer": "nesterov", "schedule": "one_cycle",
             "warmup_epochs": 0.0, "label_smoothing": 0.1, "dropout": 0.0, "ema": 0.0, "precision": "bfloat16"},
}

if __name__ == "__main__":
    cli.run(RECIPE, sample=SAMPLE, presets=PRESETS)
