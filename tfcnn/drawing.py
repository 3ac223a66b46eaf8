"""Pictures by matplotlib: drawn with its defaults and our own settings, whatever the user's settings are."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import sys
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with every kind of colour vision can tell apart, without yellow, and grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")

# Why `import_matplotlib` could not import it; at most one.
_failures: list[Exception] = []


@contextmanager
def figure(style: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Figure]:
    """An empty figure; within the context, matplotlib has its defaults and has nothing to say on standard error.

    It does without pyplot, which would choose a window system and keep every figure in memory. The user's own settings
    of matplotlib are in force again after the context.

    Args:
      style: what differs from matplotlib's defaults, by the names of its `rcParams`.
      **options: the arguments of matplotlib's `Figure`.
    """
    with _quiet():
        matplotlib = _import_matplotlib()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        defaults = {name: value for name, value in dict.items(matplotlib.rcParamsDefault)
                    if not name.startswith("backend")}
        with matplotlib.rc_context({**defaults, **(style or {})}):
            empty = Figure(**options)
            FigureCanvasAgg(empty)
            yield empty


def png(drawn: Figure) -> bytes:
    """The figure as a PNG. Call it within the figure's context."""
    picture = io.BytesIO()
    drawn.savefig(picture, format="png")
    return picture.getvalue()


def plain(text: str) -> str:
    """A text for a figure as it is: between two dollar signs matplotlib would read a formula."""
    return text.replace("$", r"\$")


def plain_log(panel: Any, axis: str) -> None:
    """Makes an axis, "x" or "y", logarithmic, with ticks that are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    getattr(panel, f"set_{axis}scale")("log")
    line = getattr(panel, f"{axis}axis")
    line.set_major_locator(LogLocator(subs=(1, 2, 5)))
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    line.set_minor_locator(NullLocator())


def warn_if_not(draw: Callable[[], object], picture: Path, let_through: tuple[type[Exception], ...] = ()) -> None:
    """Draws a picture, or says in one line on standard error why it cannot be drawn.

    What a picture shows is also in other files, and it can be drawn later: it must not cost a result.

    Args:
      draw: draws and writes the picture.
      picture: its path, for the line.
      let_through: exceptions that have nothing to do with drawing.
    """
    try:
        draw()
    except let_through:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"warning: {picture} could not be drawn: {reason}", file=sys.stderr)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the context, matplotlib tells nothing: of the user's settings, of its caches, of characters it lacks."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def import_matplotlib() -> None:
    """Imports matplotlib before Keras does, which imports it, too, and fails where the user's settings cannot be read.

    If matplotlib cannot be imported at all, Keras does without it, and `figure` says why.
    """
    try:
        with _quiet():
            _import_matplotlib()
    except ImportError:
        pass
    except Exception as error:
        _failures.append(error)
        sys.modules["matplotlib"] = None  # type: ignore[assignment]  # makes every import of it an ImportError


def _import_matplotlib() -> ModuleType:
    """Imports matplotlib with the user's settings or, where these prevent it, without them."""
    if _failures:
        raise _failures[0]
    try:
        import matplotlib
    except ImportError:
        raise
    except Exception:  # the backend is unknown, or the file cannot be read
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]
        with _defaults_in_the_current_folder():
            import matplotlib
    return matplotlib


@contextmanager
def _defaults_in_the_current_folder() -> Iterator[None]:
    """Within the context, matplotlib reads its own default settings: it looks into the current folder first."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec and spec.origin
    backend = os.environ.pop("MPLBACKEND", None)
    before = os.open(".", os.O_RDONLY)  # a path would not lead back to a folder that was moved
    os.chdir(Path(spec.origin).parent / "mpl-data")
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
