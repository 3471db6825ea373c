"""Pre-training: masked words with and without a picture, masked regions, image-text relation.

A task file (`data/pipeline.py` says what is asked of it): options, terms, and how a record
becomes an item. Host only, NumPy only; the recipe is SPEC.md "Pre-training".
"""

import dataclasses
import math
from typing import Any

import numpy as np

from vlbert_jax.data import masking, randomness, regions, rows
from vlbert_jax.data.masking import Vocabulary
from vlbert_jax.data.sources import Sources
from vlbert_jax.options import ConfigError, DataError, option
from vlbert_jax.terms import Term

RELATED = 0.5  # share of captions that keep their own picture, in the relation task
COUNTED = 0.1  # a region target counts where its scores sum to 1 within this
LEAST_TEXT = 2  # tokens that the cut leaves: [CLS] and [SEP]
SURPLUS = 1e-6  # share of rows that may have more targets than places
SMALLEST = 4  # slots of the smallest item: [CLS] [SEP], the whole image, [END]
EVALUATION_SEED = 0  # validation masks are the same in every run

SLOTS, REGIONS, CAPTION_WORDS, TEXT_WORDS = range(4)  # what `sizes` measures


@dataclasses.dataclass(frozen=True)
class Options:
    """What is masked, and how much each term counts."""

    word_probability: float = option(0.15, "share of words that become targets", least=0)
    region_probability: float = option(0.15, "share of regions that become targets", least=0)
    region_replaced: float = option(0.9, "share of target regions hidden from the model", least=0)
    caption_weight: float = option(1.0, "weight of the masked words of captions", least=0)
    text_weight: float = option(1.0, "weight of the masked words of text-only examples", least=0)
    region_weight: float = option(1.0, "weight of the masked regions; 0: none masked", least=0)
    relation_weight: float = option(1.0, "weight of image-text relation (model.relation)", least=0)


class Pretraining:
    """Captions with their regions, and lines of text, as items."""

    def __init__(self, config: Any, sources: Sources, vocabulary: Vocabulary, training: bool):
        """
        Args:
          config: vlbert_jax.config.Config (which imports this file).
          sources: sets of captions, of text, or both.
          vocabulary: of the sets and the model.
          training: mirrors pictures and draws new masks in each pass; else masks are fixed.

        Raises:
          ConfigError, DataError: a set does not fit the config.
        """
        self.options, self.model, self.data = config.pretraining, config.model, config.data
        self.sources, self.vocabulary = sources, vocabulary
        self.seed = config.seed if training else EVALUATION_SEED
        self.mirror = training and config.data.mirror
        self.slots = self.data.row_slots if self.data.packing else self.data.text_slots + 1
        for each in sources.sets:
            _check(each, config)

    def sizes(self, records: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """[4, n] int64: slots, regions, words of a caption, words of a text without picture."""
        sizes = np.zeros((4, len(records)), np.int64)
        limit = self.data.text_slots
        for source, place in self.sources.split(records):
            if self.sources.sets[source].kind == "text":
                sizes[SLOTS, place] = limit + 1
                sizes[TEXT_WORDS, place] = limit
                continue
            set_, first = self.sources.sets[source], self.sources.first[source]
            _, texts = self._texts(source, records[place], turns[place])
            text, region = cut(
                set_.pieces[texts - first].astype(np.int64) + 2,
                set_.regions[records[place] - first].astype(np.int64) + 1,
                limit,
            )
            sizes[SLOTS, place] = text + region + 1
            sizes[REGIONS, place] = region
            sizes[CAPTION_WORDS, place] = text - 2
        return sizes

    def layout(self, loads: np.ndarray) -> rows.Layout:
        """The row: regions that 99 % of the rows need, and places for their targets.

        Args:
          loads: [4, rows] of an epoch whose rows only their slots bound.

        Raises:
          ConfigError: config.data.row_regions is less than one example can have.
        """
        items = self.slots // SMALLEST if self.data.packing else 1
        return rows.Layout(
            slots=self.slots,
            regions=self._row_regions(loads[REGIONS]),
            items=items,
            region_width=self.model.region_width,
            region_classes=self.model.region_classes,
            feature_dtype=self.data.feature_dtype,
            terms=terms(self.options, self.model, loads, items),
        )

    def item(self, record: int, turn: int) -> rows.Item:
        """The item of a record in its pass `turn`.

        Raises:
          DataError: the record cannot be read.
        """
        if self.sources.sets[self.sources.of(record)].kind == "text":
            return self._text_item(record, turn)
        return self._caption_item(record, turn)

    def _caption_item(self, record: int, turn: int) -> rows.Item:
        """[CLS] caption [SEP], whole image, regions, [END]."""
        picture = caption = self.sources[record]
        related = True
        if self.model.relation:
            source = self.sources.of(record)
            (related,), (text,) = self._texts(source, np.array([record]), np.array([turn]))
            caption = picture if related else self.sources[int(text)]
        words, is_target = self._mask(caption.pieces, caption.word, record, turn)
        t, r = cut(len(words) + 2, len(picture.boxes) + 1, self.data.text_slots)
        slots = self._empty_slots(t, r)
        slots["tokens"][0], slots["tokens"][t - 1] = self.vocabulary.cls, self.vocabulary.sep
        slots["tokens"][1 : t - 1] = words[: t - 2]
        slots["visual"][:t] = rows.FIRST_REGION
        target = np.flatnonzero(is_target[: t - 2])
        targets = {"mlm_caption": _target(target + 1, caption.pieces[target])}

        is_target, is_replaced = self._mask_regions(picture, record, turn)
        kept = self._order(picture)[: r - 1]
        if is_target is not None:
            target = np.flatnonzero(is_target[kept])
            scores = regions.wide(picture.classes[kept[target]])
            counted = np.abs(scores.sum(axis=1) - 1) < COUNTED
            targets["region_class"] = _target(t + 1 + target[counted], scores[counted])
        if self.model.relation:
            targets["relation"] = _target(np.array([0]), np.array([int(related)]))
        replaced = np.zeros(r, bool)
        replaced[1:] = False if is_replaced is None else is_replaced[kept]
        features, boxes = self._regions(picture, kept, is_replaced, record, turn)
        return rows.Item(
            record=record,
            **slots,
            region_features=features,
            region_boxes=boxes,
            region_replaced=replaced,
            targets=targets,
        )

    def _text_item(self, record: int, turn: int) -> rows.Item:
        """Lines from `record` on, joined and cut, and [END]."""
        pieces, word = joined(self.sources, record, self.data.text_slots)
        words, is_target = self._mask(pieces, word, record, turn)
        t = min(len(words), self.data.text_slots)
        slots = self._empty_slots(t, 0)
        slots["tokens"][:t] = words[:t]
        slots["visual"][:t] = rows.NO_IMAGE
        target = np.flatnonzero(is_target[:t])
        return rows.Item(
            record=record,
            **slots,
            region_features=np.zeros((0, self.model.region_width), self.data.feature_dtype),
            region_boxes=np.zeros((0, 4), np.float32),
            region_replaced=np.zeros(0, bool),
            targets={"mlm_text": _target(target, pieces[target])},
        )

    def _empty_slots(self, t: int, r: int) -> dict[str, np.ndarray]:
        """Slots of t tokens, r regions and [END]; the tokens of the text are still to be set."""
        tokens, segments, positions, visual, sequence = np.zeros((5, t + r + 1), np.int32)
        tokens[t:-1] = self.vocabulary.size  # [IMG]
        tokens[-1] = self.vocabulary.size + 2  # [END]
        segments[t:] = 2
        positions[:t] = np.arange(t)
        positions[t:-1] = t
        positions[-1] = t + 1
        visual[t:-1] = np.arange(rows.FIRST_REGION, rows.FIRST_REGION + r)
        sequence[:] = 1
        return dict(
            tokens=tokens, segments=segments, positions=positions, visual=visual, sequence=sequence
        )

    def _texts(
        self, source: int, records: np.ndarray, turns: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Does the record keep its own caption ([n] bool), and whose caption it gets ([n])."""
        if not self.model.relation:
            return np.ones(len(records), bool), records
        pictures, first = self.sources.sets[source].pictures, self.sources.first[source]
        key = self.seed, turns, records
        related = randomness.uniform(*key, randomness.RELATION) < RELATED
        # Uniform over the captions of all other pictures, counted on from the picture's last one.
        picture = pictures[records - first]
        begin, end = (np.searchsorted(pictures, picture, side) for side in ("left", "right"))
        others = len(pictures) - (end - begin)
        step = (randomness.uniform(*key, randomness.PARTNER) * others).astype(np.int64)
        return related, np.where(related, records, first + (end + step) % len(pictures))

    def _mask(
        self, pieces: np.ndarray, word: np.ndarray, record: int, turn: int
    ) -> tuple[np.ndarray, np.ndarray]:
        rng = randomness.generator(self.seed, turn, record, randomness.WORDS)
        return masking.mask_words(pieces, word, self.options.word_probability, self.vocabulary, rng)

    def _mask_regions(
        self, picture: Any, record: int, turn: int
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """is_target and is_replaced of all detected regions; None without the region task."""
        options = self.options
        if not options.region_weight:
            return None, None
        rng = randomness.generator(self.seed, turn, record, randomness.REGIONS)
        return masking.mask_regions(
            len(picture.boxes), options.region_probability, options.region_replaced, rng
        )

    def _order(self, picture: Any) -> np.ndarray:
        """By class score; as in the source where there are no scores."""
        if picture.classes is None or not len(picture.boxes):
            return np.arange(len(picture.boxes))
        return regions.order(picture.classes)

    def _regions(
        self,
        picture: Any,
        kept: np.ndarray,
        is_replaced: np.ndarray | None,
        record: int,
        turn: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features [1 + kept, width] and boxes [1 + kept, 4], the whole image first."""
        stored = picture.features
        if stored.dtype != self.data.feature_dtype and self.data.feature_dtype == "float16":
            largest = np.finfo(np.float16).max
            stored = np.clip(stored, -largest, largest)
        features = np.empty((1 + len(kept), self.model.region_width), self.data.feature_dtype)
        features[0] = regions.whole_image(stored, is_replaced)
        features[1:] = stored[kept]
        key = self.seed, turn, record, randomness.MIRROR
        mirror = self.mirror and randomness.uniform(*key) < 0.5
        placed, size = regions.place(picture.boxes[kept], picture.width, picture.height, mirror)
        return features, regions.shares(placed, *size)

    def _row_regions(self, loads: np.ndarray) -> int:
        """Regions of a row: as asked for, or what 99 % of the rows need; at least one example's."""
        captions = [each.regions.max() + 1 for each in self.sources.sets if each.kind != "text"]
        largest = min(max(captions, default=1), self.data.text_slots - LEAST_TEXT)
        asked = self.data.row_regions
        if not asked:
            return max(int(largest), _round_up(float(np.quantile(loads, 0.99))))
        if asked < largest:
            raise ConfigError(
                f"config.data.row_regions={asked}, but an example of the sets has {largest}"
                " regions; raise it, or set it to 0 to have it chosen"
            )
        return asked


def terms(options: Options, model: Any, loads: np.ndarray, items: int) -> dict[str, Term]:
    """The terms of the loss, with places for the targets of a row.

    Args:
      options, model: of the config.
      loads: [4, rows] what rows hold of that which `sizes` measures.
      items: most items of a row.
    """
    words = options.word_probability
    capacity = places(loads[CAPTION_WORDS], words)
    found = {"mlm_caption": Term("words", "label", options.caption_weight, capacity)}
    if model.text_only:
        capacity = places(loads[TEXT_WORDS], words)
        found["mlm_text"] = Term("words", "label", options.text_weight, capacity)
    if options.region_weight:
        capacity = places(loads[REGIONS], options.region_probability)
        found["region_class"] = Term("regions", "distribution", options.region_weight, capacity)
    if model.relation:
        found["relation"] = Term("relation", "label", options.relation_weight, items)
    return found


def places(candidates: np.ndarray, probability: float) -> int:
    """Places for the targets of a row, so that one row in a million has more: a multiple of 8.

    The number of targets is taken as normal. Pieces of a word fall together, which makes its
    variance larger: by 1.1 on captions and on Wikipedia (measured); 1.5 is assumed.

    Args:
      candidates: [rows] words or regions of each row that may become targets.
    """
    number, rows_with = np.unique(candidates, return_counts=True)
    mean = number * probability
    deviation = np.sqrt(1.5 * mean * (1 - probability)) + 1e-9
    for capacity in range(8, int(number[-1]), 8):
        beyond = [math.erfc(x) / 2 for x in (capacity - mean) / (deviation * math.sqrt(2))]
        if np.dot(beyond, rows_with) < SURPLUS * len(candidates):
            return capacity
    return max(8, int(number[-1]))


def cut(text: Any, region: Any, limit: int) -> tuple[Any, Any]:
    """Text tokens (with [CLS] and [SEP]) and regions (with the whole image) that are kept.

    While there are more than `limit`: the last region is dropped where there are more regions
    than text tokens, else the last text token; two tokens and one region stay. This is the
    result in one go, for numbers or arrays.
    """
    half = max(limit // 2, LEAST_TEXT)
    text = np.minimum(text, np.maximum(half, limit - region))
    return text, np.minimum(region, limit - text)


def joined(sources: Sources, record: int, least_words: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces and words of lines from `record` on, until they have `least_words` words.

    The first line follows the last of a set. Words are numbered through.
    """
    source = sources.of(record)
    set_, index = sources.sets[source], record - sources.first[source]
    pieces, words, count = [], [], 0
    while count < least_words:
        line = set_[index % len(set_)]
        pieces.append(line.pieces)
        words.append(line.word + count)
        count += int(line.word[-1]) + 1 if len(line.word) else 0
        index += 1
    return np.concatenate(pieces), np.concatenate(words)


def _target(slot: np.ndarray, value: np.ndarray) -> rows.Target:
    return rows.Target(slot, value, np.ones(len(slot), np.float32))


def _round_up(number: float) -> int:
    return -(-math.ceil(number) // 8) * 8


def _check(set_: Any, config: Any) -> None:
    """Does a prepared set fit the config?"""
    model, name = config.model, set_.directory
    if not len(set_):
        raise DataError(f"{name}: the split {set_.split} has no record")
    if set_.kind == "text":
        if not model.text_only:
            raise DataError(
                f"{name}: a set of texts, but config.model.text_only=False; set it to True, or"
                " take the set out of config.data"
            )
        return
    if set_.kind != "captions":
        raise DataError(
            f"{name}: a set of {set_.kind}; pre-training reads sets of captions and of text:"
            " prepare it again with --captions=FILE"
        )
    if set_.region_width != model.region_width:
        raise DataError(
            f"{name}: its regions have {set_.region_width} numbers, but"
            f" config.model.region_width={model.region_width}; set it to {set_.region_width}, or"
            " prepare features of the other detector"
        )
    if config.pretraining.region_weight and not set_.region_classes:
        raise DataError(
            f"{name}: no class scores; masked region classification needs them; set"
            " config.pretraining.region_weight=0, or prepare features with class scores"
        )
    if config.pretraining.region_weight and set_.region_classes != model.region_classes:
        raise DataError(
            f"{name}: its regions have {set_.region_classes} class scores, but"
            f" config.model.region_classes={model.region_classes}; set it to"
            f" {set_.region_classes}, or prepare features of the other detector"
        )
    if model.relation and set_.pictures[0] == set_.pictures[-1]:
        raise DataError(
            f"{name}: one picture; config.model.relation=True takes captions of other pictures"
        )
