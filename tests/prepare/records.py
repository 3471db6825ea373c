"""Raw records for tests: random, small, from a seed."""

import pathlib

import numpy as np

from vlbert_jax.prepare.raw import RawCaption, RawText

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


def lines(*texts: str) -> list[RawText]:
    return [RawText(f"made:{number}", text) for number, text in enumerate(texts, start=1)]
