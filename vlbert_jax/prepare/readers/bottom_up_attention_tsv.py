"""regions of the bottom-up-attention detector: its tab-separated files, adaptive or 36 a picture"""

from collections.abc import Iterator

from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import with_background
from vlbert_jax.prepare.raw import Bad, RawPicture

KIND = "pictures"
COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LAYOUTS = (COLUMNS, (*COLUMNS, "cls_prob"))
SUFFIXES = (".tsv", ".0", ".1")  # karpathy_train_resnet101_faster_rcnn_genome.tsv.0


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of the files, in order; class scores where a file has a seventh column.

    Raises:
      DataError: no such file.
    """
    return tables.pictures(inputs, LAYOUTS, _picture, SUFFIXES)


def _picture(row: dict[str, str], where: str) -> RawPicture:
    n = tables.digits(row["num_boxes"], "num_boxes")
    classes = None
    if "cls_prob" in row:
        classes = with_background(tables.array(row["cls_prob"], "cls_prob", n))
    return RawPicture(
        image_id=row["image_id"],
        width=tables.digits(row["image_w"], "image_w"),
        height=tables.digits(row["image_h"], "image_h"),
        boxes=tables.array(row["boxes"], "boxes", n, 4),
        features=tables.array(row["features"], "features", n),
        classes=classes,
        where=where,
    )
