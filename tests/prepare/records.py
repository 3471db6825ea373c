"""Raw records for tests: random, small, from a seed."""

import pathlib

import numpy as np

from vlbert_jax.prepare.raw import RawCaption, RawPicture, RawText

FILES = pathlib.Path(__file__).parent.parent / "files"
WORDS = ["a", "dog", "runs", "umbrella-shaped", ",", "café", "中文", "[MASK]", "unaffable"]


def captions(count: int, seed: int = 0, width: int = 16, classes: int = 5) -> list[RawCaption]:
    """Records of 0 to 4 regions; the first one has some. `classes` 0: no class scores."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        n = int(draw.integers(0, 5)) if number else 3
        corner = draw.uniform(0, 200, (n, 2))
        made.append(
            RawCaption(
                key=f"{number:08d}",
                image_id=f"picture {number}",
                caption=" ".join(draw.choice(WORDS, draw.integers(0, 9))),
                width=int(draw.integers(400, 700)),
                height=int(draw.integers(400, 700)),
                boxes=np.hstack([corner, corner + draw.uniform(1, 190, (n, 2))]).astype("f4"),
                features=np.abs(draw.normal(size=(n, width))).astype("f4"),
                classes=draw.dirichlet(np.ones(classes), n).astype("f4") if classes else None,
                where=f"made line {number + 1}",
            )
        )
    return made


def pictures(count: int, several: int | None = None, **options: int) -> list[RawPicture]:
    """The pictures of `captions` with 1 to 4 captions each, or with `several`."""
    draw = np.random.default_rng(1)
    made = []
    for number, raw in enumerate(captions(count, **options)):
        texts_of = draw.integers(1, 5) if several is None else several
        texts = [" ".join(draw.choice(WORDS, draw.integers(0, 9))) for _ in range(texts_of)]
        made.append(
            RawPicture(
                image_id=f"{number}",
                width=raw.width,
                height=raw.height,
                boxes=raw.boxes,
                features=raw.features,
                classes=raw.classes,
                where=raw.where,
                captions=[RawText(f"{number}#{k}", text) for k, text in enumerate(texts)],
            )
        )
    return made


def lines(*texts: str) -> list[RawText]:
    return [RawText(f"made:{number}", text) for number, text in enumerate(texts, start=1)]
