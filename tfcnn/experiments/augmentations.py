"""A contact sheet of every augmentation: three strengths of each, on a test card and on real images.

The card reveals what photographs hide: its frame is one pixel wide, and its cross marks the centre of the image.

Command: python -m tfcnn.experiments.augmentations
Expected time: ten seconds on two CPU cores.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn import cli
from tfcnn.recipe import Option, Recipe, UsageError, check

OPTIONS = {
    "dataset": Option("sample", help="data set the images are from, as in training"),
    "data_dir": Option("", help="folder of the data set"),
    "images": Option(3, help="number of real images beside the card"),
    "seed": Option(0, help="seed of the random draws"),
}
# Name -> weak, with default strength, and strong; `--augment` values.
SHOWN = {
    "mirror": ("mirror",) * 3, "alternating_mirror": ("alternating_mirror",) * 3, "crop": ("crop:1", "crop", "crop:12"),
    "resized_crop": ("resized_crop:0.8", "resized_crop:0.3", "resized_crop"),
    "rotate": ("rotate:5", "rotate", "rotate:90"), "shear": ("shear:5", "shear", "shear:40"),
    "translate": ("translate:0.05", "translate", "translate:0.4"), "zoom": ("zoom:0.05", "zoom", "zoom:0.6"),
    "elastic": ("elastic:4:4", "elastic", "elastic:30:3"),
    "rotate,shear,zoom,elastic": ("rotate:5,shear:5,zoom:0.05,elastic:4", "rotate,shear,zoom,elastic",
                                  "rotate:60,shear:30,zoom:0.5,elastic:20"),
    "colour_pca": ("colour_pca:0.05", "colour_pca", "colour_pca:1"),
    "brightness": ("brightness:0.1", "brightness", "brightness:0.8"),
    "contrast": ("contrast:0.1", "contrast", "contrast:0.8"),
    "saturation": ("saturation:0.1", "saturation", "saturation:1"),
    "cutout": ("cutout:4", "cutout", "cutout:16"),
    "randaugment": ("randaugment:1:3", "randaugment", "randaugment:3:10"),
    "mixup": ("mixup:0.05", "mixup", "mixup:1"), "cutmix": ("cutmix:0.3", "cutmix", "cutmix:3"),
    "presets": ("standard", "alexnet", "strong"),
}


def draw(values: Mapping[str, Any], workdir: Path) -> None:
    """Draws the sheet and writes it into the folder."""
    from tfcnn.benchmarks import contact_sheet
    from tfcnn.data import datasets, pipeline

    split = datasets.load(values["dataset"], values["data_dir"] or None, validation=0, image_size=(32, 32)).train
    check("images", values["images"], int, minimum=1)
    if values["images"] > len(split):
        raise UsageError(f"--images={values['images']}: {values['dataset']} has {len(split):,} training images")
    # Evenly spaced, because class folders are sorted by class.
    chosen = range(len(split) // (2 * values["images"]), len(split), len(split) // values["images"])
    split = datasets.Split(split.images[chosen], split.labels[chosen])
    images = pipeline.fit(split, (32, 32, 3)).images[:values["images"]]
    recipe = Recipe(experiment="", network="", seed=values["seed"])
    print(contact_sheet.draw(images, {name: [recipe.replace(augment=text).augmentations() for text in texts]
                                      for name, texts in SHOWN.items()}, values["seed"], workdir))


if __name__ == "__main__":
    cli.measure("augmentations", OPTIONS, draw)
