"""regions of LXMERT: tab-separated, 10 columns, height first; volta's 13 with class scores

The 10 columns have the best class of a region, no distribution: masked regions cannot be learned
from them.
"""

from collections.abc import Iterator

from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import with_background
from vlbert_jax.prepare.raw import Bad, RawPicture

KIND = "pictures"
BEST = ("objects_id", "objects_conf", "attrs_id", "attrs_conf")
COLUMNS = ("img_id", "img_h", "img_w", *BEST, "num_boxes", "boxes", "features")
LAYOUTS = (COLUMNS, (*COLUMNS, "cls_prob", "attrs", "classes"))


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of the files, in order.

    Raises:
      DataError: no such file.
    """
    return tables.pictures(inputs, LAYOUTS, _picture)


def _picture(row: dict[str, str], where: str) -> RawPicture:
    n = tables.digits(row["num_boxes"], "num_boxes")
    classes = None
    if "cls_prob" in row:
        classes = with_background(tables.array(row["cls_prob"], "cls_prob", n))
    return RawPicture(
        image_id=row["img_id"],
        width=tables.digits(row["img_w"], "img_w"),
        height=tables.digits(row["img_h"], "img_h"),
        boxes=tables.array(row["boxes"], "boxes", n, 4),
        features=tables.array(row["features"], "features", n),
        classes=classes,
        where=where,
    )
