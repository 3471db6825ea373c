"""Is a raw record fit to be trained on? Every record passes here before it is written.

What is wrong for certain makes the record bad (`problems`); what is unusual but harmless is
counted (`notes`), and what a person should look at is said (`warnings`).
"""

import dataclasses

import numpy as np

from vlbert_jax.prepare.raw import RawCaption, RawPicture

LARGEST = float(np.finfo(np.float16).max)
TINY = float(np.finfo(np.float16).tiny)  # the least normal number
CLASS_SUM = 0.1  # a region target counts where |sum - 1| is below (SPEC.md "Pre-training")


@dataclasses.dataclass
class Findings:
    """What `picture` found.

    Attributes:
      problems: (field, what was found and expected) of each fault; any makes the record bad.
      notes: names of things that are counted.
      warnings: sentences for a person to read.
    """

    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)


def picture(raw: RawCaption | RawPicture, width: int | None, classes: int | None) -> Findings:
    """Checks the regions of one picture.

    Args:
      raw: the picture, with or without captions.
      width: region width of the set; None: no record with regions came before.
      classes: class scores of a region in the set (0: it has none); None: likewise.
    """
    found = Findings()
    if raw.width is None or raw.height is None or raw.boxes is None:
        found.problems.append(
            ("size", "the source tells no size of the picture, so its boxes have no meaning")
        )
        return found
    n = len(raw.boxes)
    if raw.width < 1 or raw.height < 1:
        found.problems.append(
            ("size", f"picture of {raw.width}×{raw.height} pixels; expected at least 1×1")
        )
    for name, rows in (("features", raw.features), ("classes", raw.classes)):
        if rows is not None and len(rows) != n:
            found.problems.append((name, f"{len(rows)} rows for {n} boxes"))
    if n == 0:
        found.notes.append("without_regions")
    else:
        _widths(raw, width, classes, found)
    _numbers("boxes", raw.boxes, found)
    _numbers("features", raw.features, found)
    if raw.classes is not None:
        _numbers("classes", raw.classes, found)
    if not found.problems and n:
        _boxes(raw, found)
        _values(raw, found)
    return found


def clamped(raw: RawCaption | RawPicture) -> np.ndarray:
    """[n, 4] float32 boxes. Where one leaves the picture (by at most a pixel), all are cut to it.

    The last pixel is w - 1. Boxes between w - 1 and w are no fault (the detector's frame is
    finer than the picture's) and stay as they are, as in the release.
    """
    boxes = np.asarray(raw.boxes, np.float32).reshape(-1, 4)
    if not len(boxes) or not _outside(boxes, raw):
        return boxes
    last = np.array([raw.width - 1, raw.height - 1] * 2, np.float32)
    return np.clip(boxes, 0, last)


def stored(numbers: np.ndarray, dtype: str) -> np.ndarray:
    """`numbers` in the dtype of the set; what float16 cannot hold becomes its largest number."""
    if dtype != "float16" or numbers.dtype == np.float16:
        return numbers.astype(dtype)
    numbers = np.clip(numbers, -LARGEST, LARGEST)
    # NumPy takes 50 ns to round a number below the normal ones, and most class scores lie there.
    size = np.abs(numbers)
    normal = np.where(size < TINY, 0, numbers).astype(np.float16).view(np.uint16)
    below = np.rint(np.minimum(size, TINY) * 2.0**24).astype(np.uint16)  # steps of 2 ** -24
    below |= np.signbit(numbers).astype(np.uint16) << 15
    return np.where(size < TINY, below, normal).view(np.float16)


def _outside(boxes: np.ndarray, raw: RawCaption | RawPicture) -> bool:
    return bool((boxes < 0).any() or (boxes >= [raw.width, raw.height] * 2).any())


def _widths(
    raw: RawCaption | RawPicture, width: int | None, classes: int | None, found: Findings
) -> None:
    here = raw.features.shape[1]
    if width is not None and here != width:
        found.problems.append(("features", f"{here} numbers a region; the set has {width}"))
    here = 0 if raw.classes is None else raw.classes.shape[1]
    if classes is not None and here != classes:
        found.problems.append(("classes", f"{here} class scores a region; the set has {classes}"))


def _numbers(name: str, rows: np.ndarray, found: Findings) -> None:
    if np.isfinite(rows).all():
        return
    region, element = np.argwhere(~np.isfinite(rows))[0].tolist()
    value = rows[region, element]
    found.problems.append(
        (name, f"region {region}, element {element} is {value}; expected finite numbers")
    )


def _boxes(raw: RawCaption | RawPicture, found: Findings) -> None:
    boxes, size = raw.boxes, f"a {raw.width}×{raw.height} picture"
    x1, y1, x2, y2 = boxes.T
    reversed_rows = np.flatnonzero((x2 < x1) | (y2 < y1))
    if len(reversed_rows):
        row = int(reversed_rows[0])
        found.problems.append(
            (
                "boxes",
                f"box {row} is {_show(boxes[row])}: x2 < x1 or y2 < y1; expected corners"
                " x1, y1, x2, y2 (is it x, y, width, height?)",
            )
        )
    elif boxes.max() <= 1 and boxes.max() > 0 and min(raw.width, raw.height) > 2:
        found.problems.append(
            (
                "boxes",
                f"all lie within 0..1 in {size}; boxes look like fractions, expected pixels",
            )
        )
    elif boxes.min() < -1 or x2.max() > raw.width + 1 or y2.max() > raw.height + 1:
        low = f" and start at {boxes.min():g}" if boxes.min() < -1 else ""
        found.problems.append(
            (
                "boxes",
                f"reach {x2.max():g}×{y2.max():g}{low} in {size}; other frame? expected pixels of"
                " the original picture",
            )
        )
    else:
        if _outside(boxes, raw):
            found.notes.append("boxes_clamped")
        if ((x2 == x1) | (y2 == y1)).any():
            found.notes.append("boxes_without_area")


def _values(raw: RawCaption | RawPicture, found: Findings) -> None:
    least, largest = float(raw.features.min()), float(raw.features.max())
    if max(largest, -least) > LARGEST:
        found.notes.append("extreme_features")
        found.warnings.append(
            f"features reach {max(largest, -least):g}; detectors stay below 100, and float16 (the default) stores"
            f" at most {LARGEST:g}"
        )
    if least < 0:
        found.notes.append("negative_features")
    if raw.classes is not None:
        sums = raw.classes.sum(axis=1, dtype=np.float64)
        if (np.abs(sums - 1) >= CLASS_SUM).any():
            found.notes.append("class_sums_off")


def _show(numbers: np.ndarray) -> str:
    return "(" + ", ".join(f"{number:g}" for number in numbers) + ")"
