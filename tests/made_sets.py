"""Prepared sets in memory, with the attributes of `data/prepared.py`, for tests of the data path."""

from collections.abc import Sequence

import numpy as np

from vlbert_jax import config
from vlbert_jax.data.masking import Vocabulary
from vlbert_jax.data.record import Caption, Text
from vlbert_jax.data.sources import Sources
from vlbert_jax.tasks.pretraining import Pretraining

WIDTH, CLASSES = 8, 6
VOCABULARY = Vocabulary(size=200, pad=0, cls=4, sep=5, mask=6)


class MadeSet:
    """Records of a list."""

    def __init__(self, records: Sequence[Caption | Text], name: str = "made"):
        self.records = list(records)
        self.directory, self.split, self.fingerprint = name, "train", name
        captions = [record for record in records if isinstance(record, Caption)]
        self.kind = "captions" if captions else "text"
        self.pieces = np.array([len(record.pieces) for record in records], np.int32)
        ids = list(dict.fromkeys(record.image_id for record in captions))  # stand together
        self.pictures = np.array([ids.index(record.image_id) for record in captions], np.int32)
        counts = [len(r.boxes) if isinstance(r, Caption) else 0 for r in records]
        self.regions = np.array(counts, np.int32)
        scored = [record for record in captions if record.classes is not None]
        self.region_width = captions[0].features.shape[1] if captions else 0
        self.region_classes = scored[0].classes.shape[1] if scored else 0

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Caption | Text:
        return self.records[index]


def caption(
    rng: np.random.Generator,
    key: str = "picture",
    words: int = 5,
    regions: int = 3,
    dtype: str = "float32",
) -> Caption:
    """A caption of that many words, about every third of two pieces."""
    pieces_of = rng.integers(1, 4, words) // 2 + 1
    word = np.repeat(np.arange(words, dtype=np.int32), pieces_of)
    corner = rng.uniform(0, 200, (regions, 2))
    return Caption(
        key=key,
        image_id=key,
        caption="",
        pieces=rng.integers(10, VOCABULARY.size, len(word), np.int32),
        word=word,
        width=640,
        height=480,
        boxes=np.concatenate([corner, corner + 100], axis=1).astype(np.float32),
        features=rng.random((regions, WIDTH)).astype(dtype),
        classes=rng.dirichlet(np.ones(CLASSES), regions).astype(dtype),
    )


def text(rng: np.random.Generator, key: str = "line", words: int = 30) -> Text:
    word = np.arange(words, dtype=np.int32)
    return Text(key=key, pieces=rng.integers(10, VOCABULARY.size, words, np.int32), word=word)


def captions(number: int, seed: int = 0, most_words: int = 12, most_regions: int = 20) -> MadeSet:
    rng = np.random.default_rng(seed)
    return MadeSet(
        [
            caption(
                rng,
                f"picture{n}",
                int(rng.integers(1, most_words + 1)),
                int(rng.integers(1, most_regions + 1)),
            )
            for n in range(number)
        ],
        "captions",
    )


def texts(number: int, seed: int = 1) -> MadeSet:
    rng = np.random.default_rng(seed)
    return MadeSet(
        [text(rng, f"line{n}", int(rng.integers(1, 50))) for n in range(number)], "texts"
    )


def make_config(model: dict | None = None, data: dict | None = None, **sections) -> config.Config:
    sizes = dict(vocabulary=VOCABULARY.size, region_width=WIDTH, region_classes=CLASSES)
    return config.Config(
        model=config.Model(**{**sizes, **(model or {})}),
        data=config.Data(**{"row_slots": 256, "feature_dtype": "float32", **(data or {})}),
        **sections,
    )


def make_task(*sets: MadeSet, training: bool = True, task: type = Pretraining, **sections):
    return task(make_config(**sections), Sources(sets), VOCABULARY, training)
