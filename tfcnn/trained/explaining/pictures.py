"""The pictures of an explanation: the trained network's above or beside those of the network with new weights."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from tfcnn import drawing
from tfcnn.trained.explaining.explanation import CHANNELS, Explanation, Pair, Pictures

_STYLE = {"font.size": 9, "figure.titlesize": 10, "axes.titlesize": 9}
_COLUMNS = 8
_TRAINED, _REDRAWN = "trained", "weights\ndrawn anew"
_TEST = "After drawing its weights anew"
_MARGIN = "#DDE6EE"  # around filters, which may be black, grey and white
_OVERVIEW = 4  # pictures
_NAME = 14  # characters


def draw(explanation: Explanation, class_names: Sequence[str], name: str) -> dict[str, bytes]:
    """The pictures of an explanation as PNG files, by their names.

    Args:
      explanation: what was found.
      class_names: of the network.
      name: of the network, for the titles.
    """
    captions = _captions(explanation.pictures, class_names)
    found = {"overview.png": _overview(explanation, captions, name)}
    for pair in explanation.attributions:
        found[f"{pair.name}.png"] = _attribution(pair, explanation.pictures.images, captions, name)
    if explanation.filters:
        found["filters.png"] = _filters(explanation.filters, name)
    if explanation.feature_maps:
        for number in range(len(explanation.pictures.images)):
            found[f"feature_maps_{number + 1}.png"] = _feature_maps(
                explanation.feature_maps, explanation.pictures.images[number], number, captions[number], name)
    if explanation.units and explanation.test_images is not None:
        found["units.png"] = _units(explanation.units, explanation.test_images, name)
    found["activation_maximization.png"] = _maximized(explanation.maximized, name)
    return found


def _captions(pictures: Pictures, class_names: Sequence[str]) -> list[str]:
    """The class that is explained in each picture with its probability, and the true class if it is another one."""
    captions = []
    for number, label, values in zip(pictures.classes, pictures.labels, pictures.probabilities):
        true = "" if label is None or label == number else f"\n(is {_short(class_names[label])})"
        captions.append(f"{_short(class_names[number])} {values[number]:.0%}{true}")
    return captions


def _overview(explanation: Explanation, captions: Sequence[str], name: str) -> bytes:
    """The first pictures, and beside each what the methods make of it."""
    pictures, pairs = explanation.pictures.images[:_OVERVIEW], explanation.attributions

    def draw_on(figure: Any) -> None:
        grid = figure.subplots(len(pictures), 1 + len(pairs), squeeze=False)
        for number, row in enumerate(grid):
            _show_image(row[0], pictures[number])
            row[0].set_ylabel(captions[number])
            for axes, pair in zip(row[1:], pairs):
                _show_map(axes, pair, pair.trained[number], pictures[number])
        grid[0][0].set_title("Picture\n")
        for axes, pair in zip(grid[0][1:], pairs):
            axes.set_title(f"{pair.title}\n{_number(pair.similarity)}")
        _head(figure, f"What {name} looks at. Numbers: rank correlation of the maps before and after drawing the "
                      "weights anew")

    return _drawn(draw_on, (1.35 * (1 + len(pairs)), 1.3 * len(pictures) + 0.8))


def _attribution(pair: Pair, images: np.ndarray, captions: Sequence[str], name: str) -> bytes:
    """The pictures, the maps of the trained network, and those with new weights, in three rows."""
    blocks = -(-len(images) // _COLUMNS)
    columns = min(len(images), _COLUMNS)

    def draw_on(figure: Any) -> None:
        grid = figure.subplots(3 * blocks, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for number, image in enumerate(images):
            block, column = divmod(number, columns)
            above, middle, below = grid[3 * block:3 * block + 3, column]
            _show_image(above, image)
            above.set_title(captions[number], fontsize=8)
            _show_map(middle, pair, pair.trained[number], image)
            _show_map(below, pair, pair.redrawn[number], image)
            if not column:
                for axes, label in ((above, "picture"), (middle, _TRAINED), (below, _REDRAWN)):
                    axes.set_ylabel(label)
        _head(figure, _title(pair, name))

    return _drawn(draw_on, (1.15 * max(columns, 4) + 0.6, 3.6 * blocks + 0.6))


def _filters(pair: Pair, name: str) -> bytes:
    columns = _COLUMNS if len(pair.trained) >= 4 * _COLUMNS else max(1, len(pair.trained) // 2)

    def draw_on(figure: Any) -> None:
        for axes, values, label in zip(figure.subplots(1, 2), (pair.trained, pair.redrawn), (_TRAINED, _REDRAWN)):
            _show_image(axes, _tiles([_centred(one) for one in values], columns))
            axes.set_title(label.replace("\n", " "))
            axes.set_facecolor(_MARGIN)
        settings = pair.settings
        _head(figure, f"{_title(pair, name)}\n{settings['layer']}, {len(pair.trained)} of {settings['of']}; grey: 0")

    rows = -(-len(pair.trained) // columns)
    return _drawn(draw_on, (7.5, 3.6 * rows / columns + 1.0))


def _feature_maps(stages: Sequence[Pair], image: np.ndarray, number: int, caption: str, name: str) -> bytes:
    """A row for each stage: its most varied channels for one picture, and the same channels with new weights."""
    def draw_on(figure: Any) -> None:
        grid = figure.subplots(len(stages), 3, squeeze=False, width_ratios=[1, 3, 3])
        for pair, row in zip(stages, grid):
            trained, redrawn = pair.trained[number], pair.redrawn[number]
            for axes, values in zip(row[1:], (trained, redrawn)):
                _show_image(axes, _tiles([_scaled(channel)[..., None] for channel in np.moveaxis(values, -1, 0)],
                                         CHANNELS // 2), cmap="viridis")
            rows, columns, _ = trained.shape
            layer, channels = pair.settings["layer"], pair.settings["channels"]
            row[1].set_ylabel(f"{layer}\n{rows}x{columns}x{channels}\nr = {_number(pair.similarity)}", fontsize=7)
            row[0].axis("off")
        _show_image(grid[0][0], image)
        grid[0][0].set_title(caption, fontsize=8)
        grid[0][1].set_title(_TRAINED)
        grid[0][2].set_title(_REDRAWN.replace("\n", " "))
        _head(figure, f"Feature maps of {name}, stage by stage: the {CHANNELS} channels that vary most\n"
                      f"{_TEST}: mean rank correlation r of a channel's maps (1: nothing changes)")

    return _drawn(draw_on, (8.5, 1.25 * len(stages) + 1.0))


def _units(pair: Pair, images: np.ndarray, name: str) -> bytes:
    """A row for each unit: the images that activate it most, and those that do so with new weights."""
    def draw_on(figure: Any) -> None:
        for axes, key, label in zip(figure.subplots(1, 2), ("images", "images_redrawn"), (_TRAINED, _REDRAWN)):
            rows = pair.settings[key]
            picture = _tiles([_rgb(images[index]) for row in rows for index in row], len(rows[0]))
            _show_image(axes, picture)
            axes.set_title(label.replace("\n", " "))
            side = picture.shape[0] / len(rows)
            axes.set_yticks([(row + 0.5) * side - 0.5 for row in range(len(rows))],
                            [f"unit {number}" for number in pair.settings["units"]], fontsize=7)
            axes.tick_params(left=False, labelleft=True)
        _head(figure, f"{_title(pair, name)}\n{pair.settings['layer']}: the {len(rows)} units that vary most")

    return _drawn(draw_on, (8.5, 0.48 * len(pair.settings["units"]) + 1.2))


def _maximized(pair: Pair, name: str) -> bytes:
    titles = pair.settings["shown"]

    def draw_on(figure: Any) -> None:
        grid = figure.subplots(2, len(titles), squeeze=False)
        for row, images, label in zip(grid, (pair.trained, pair.redrawn), (_TRAINED, _REDRAWN)):
            row[0].set_ylabel(label)
            for axes, image in zip(row, images):
                _show_image(axes, image)
        for axes, title in zip(grid[0], titles):
            axes.set_title(_short(title), fontsize=8)
        _head(figure, _title(pair, name))

    return _drawn(draw_on, (max(1.0 * len(titles) + 0.6, 5.0), 2.7))


def _title(pair: Pair, name: str) -> str:
    layer = f", {pair.settings['layer']}" if pair.name in ("grad_cam", "activation_maximization") else ""
    colours = "; red speaks for the class, blue against it" if pair.name == "occlusion" else ""
    return (f"{pair.title} ({pair.source}) of {name}{layer}{colours}\n{_TEST}: rank correlation "
            f"{_number(pair.similarity)} (1: nothing changes)")


def _head(figure: Any, text: str) -> None:
    """The title of a figure, in lines that are not wider than it."""
    characters = int(12 * figure.get_figwidth())
    figure.suptitle(drawing.plain("\n".join(textwrap.fill(line, characters) for line in text.splitlines())))


def _short(name: str) -> str:
    """The name of a class, no longer than fits above a picture."""
    return drawing.plain(name if len(name) <= _NAME else f"{name[:_NAME - 3]}...")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _show_image(axes: Axes, image: np.ndarray, cmap: str = "gray") -> None:
    """Shows `[height, width, 1 or 3]`, uint8 or from 0 to 1, without axes; NaN is transparent."""
    values = image / 255 if image.dtype == np.uint8 else image
    axes.imshow(values[..., 0] if values.shape[-1] == 1 else values, cmap, interpolation="nearest", vmin=0, vmax=1)
    _bare(axes)


def _show_map(axes: Axes, pair: Pair, values: np.ndarray, image: np.ndarray) -> None:
    """Shows a map as is usual for its method: Grad-CAM over the picture, a signed map in two colours."""
    if pair.name == "occlusion":
        largest = np.abs(values).max() or 1
        axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    elif pair.name == "grad_cam":
        height, width = image.shape[:2]
        axes.imshow(_rgb(image).mean(axis=-1), cmap="gray", vmin=0, vmax=255)
        axes.imshow(values, cmap="inferno", alpha=0.6, extent=_extent(pair.settings, values.shape, image.shape),
                    interpolation="bilinear", vmin=0, vmax=values.max() or 1)
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    else:
        # Capped, as in Smilkov et al. 2017: a few large values would leave the rest black.
        axes.imshow(values, cmap="inferno", vmin=0, vmax=np.percentile(values, 99) or 1, interpolation="nearest")
    _bare(axes)


def _extent(settings: dict[str, Any], shape: tuple[int, ...], image: tuple[int, ...]
            ) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a map in a picture: each position is drawn at the centre of what it sees."""
    if not settings["stride"]:
        return -0.5, image[1] - 0.5, image[0] - 0.5, -0.5
    (top, bottom), (left, right) = ((first - step / 2, first + (count - 0.5) * step) for first, step, count in zip(
        settings["first_centre"], settings["stride"], shape))
    return left, right, bottom, top


def _bare(axes: Axes) -> None:
    axes.axis("on")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values from their smallest, 0, to their largest, 1."""
    reach = np.ptp(values)
    return (values - values.min()) / reach if reach else np.zeros_like(values)


def _centred(values: np.ndarray) -> np.ndarray:
    """Values with 0 at 0.5, and the largest absolute value at 0 or 1."""
    largest = np.abs(values).max()
    return 0.5 + values / (2 * largest) if largest else np.full_like(values, 0.5)


def _tiles(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Images side by side in so many columns, a white margin around each: `[height, width, 1 or 3]`, from 0 to 1."""
    height, width, channels = images[0].shape
    margin = max(1, round(height / 16))
    rows = -(-len(images) // columns)
    picture = np.full((rows * (height + margin) + margin, columns * (width + margin) + margin, channels),
                      1.0 if channels > 1 else np.nan)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = margin + row * (height + margin), margin + column * (width + margin)
        picture[top:top + height, left:left + width] = image / 255 if image.dtype == np.uint8 else image
    return picture


def _drawn(draw_on: Callable[[Any], None], size: tuple[float, float]) -> bytes:
    with drawing.figure(_STYLE, figsize=size, dpi=150, layout="constrained") as figure:
        draw_on(figure)
        return drawing.png(figure)
