"""msgpack with NumPy arrays inside, as the package msgpack_numpy writes them; no objects."""

import math
import re
from typing import Any

import numpy as np

from vlbert_jax.prepare.fields import library
from vlbert_jax.prepare.unpickle import DamagedError

PLAIN_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU]\d{1,9})")


def unpack(data: bytes) -> Any:
    """The value of a msgpack; keys of maps are text, text in values may be bytes.

    Raises:
      DamagedError: no whole msgpack, or an array of objects or of other bytes than its shape says.
      DataError: the library is missing.
    """
    msgpack = library("msgpack")
    try:
        return msgpack.unpackb(data, object_hook=_array, raw=True, strict_map_key=False)
    except DamagedError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DamagedError(f"no whole msgpack ({type(error).__name__}: {error})") from error


def _array(stored: dict) -> Any:
    """The array or scalar of a map that msgpack_numpy made; another map with keys of text."""
    if b"nd" not in stored:
        return {
            key.decode("utf-8", "replace") if isinstance(key, bytes) else key: value
            for key, value in stored.items()
        }
    try:
        name, shape, data = stored[b"type"], stored.get(b"shape", []), stored[b"data"]
        name = name.decode() if isinstance(name, bytes) else name
        if not isinstance(name, str) or not PLAIN_DTYPE.fullmatch(name):
            raise DamagedError(f"array of the dtype {name!r:.80}; expected plain numbers")
        dtype = np.dtype(name)
        size = math.prod(shape) * dtype.itemsize
    except (KeyError, TypeError) as error:
        raise DamagedError(f"array without dtype, shape or data ({error})") from error
    if len(data) != size or min(shape, default=0) < 0:
        raise DamagedError(f"array of {shape} {dtype} with {len(data):,} bytes; expected {size:,}")
    made = np.frombuffer(data, dtype).reshape(shape)
    return made if stored[b"nd"] else made[()]
