"""VL-BERT: rows of slots in, logits of every term out (SPEC.md "One example", "Heads").

The file follows the paper: regions become vectors, vectors and tokens become slots, the encoder
mixes the slots of a sequence, heads read the target slots. The input is a batch as `data/rows.py`
describes it; B rows, L slots, R regions a row, H hidden.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from vlbert_jax.config import Model
from vlbert_jax.model.attention import attend
from vlbert_jax.model.dropout import dropout
from vlbert_jax.model.heads import RegionHead, RelationHead, WordHead
from vlbert_jax.model.layers import layer_norm, linear, precision, uniform

GEOMETRY_WIDTH = 2048
EXTRA_TOKENS = 3  # [IMG], masked [IMG], [END], in this order after the vocabulary
TABLE_MULTIPLE = 128  # the word table is padded to a multiple, so that it divides over devices

Batch = Mapping[str, jax.Array]


def table_rows(config: Model) -> int:
    """Rows of the token table: vocabulary, the three extra tokens, padding."""
    return -(-(config.vocabulary + EXTRA_TOKENS) // TABLE_MULTIPLE) * TABLE_MULTIPLE


class VLBert(nn.Module):
    """The whole network.

    Attributes:
      config: sizes and switches.
      heads: term -> "words", "regions" or "relation", the head that reads its slots.
      window: no sequence is longer than window + 1 slots (for window attention).
    """

    config: Model
    heads: Mapping[str, str]
    window: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool) -> dict[str, jax.Array]:
        """Logits [B, K, classes] float32 of each term; `train` turns dropout on."""
        config = self.config
        regions = RegionVectors(config, name="regions")(batch, train)  # [B, R, width]
        slots, table = Embeddings(config, name="embeddings")(batch, regions, train)  # [B, L, H]
        slots = Encoder(config, self.window, name="encoder")(slots, batch["sequence"], train)
        self.sow("intermediates", "slots", slots)

        dtype, std = jnp.dtype(config.dtype), config.initial_std
        word_head = WordHead(config.hidden, config.vocabulary, std, dtype, name="word_head")
        region_head = RegionHead(
            config.hidden, config.region_classes, std, dtype, name="region_head"
        )
        heads = {"words": lambda x: word_head(x, table), "regions": region_head}
        if config.relation:
            heads["relation"] = RelationHead(config.hidden, std, dtype, name="relation_head")
        logits = {}
        for term, head in self.heads.items():
            at = batch[f"{term}_slot"][..., None]  # [B, K, 1]
            logits[term] = heads[head](jnp.take_along_axis(slots, at, axis=1))
        return logits


class RegionVectors(nn.Module):
    """Region vector = ReLU(Linear(dropout([geometry ; appearance])))."""

    config: Model

    @nn.compact
    def __call__(self, batch: Batch, train: bool) -> jax.Array:
        """[B, R, width of the region vector] in the compute dtype."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        masked = self.param("masked", nn.initializers.zeros, (config.region_width,))
        appearance = jnp.where(
            batch["region_replaced"][..., None],
            masked.astype(dtype),
            batch["region_features"].astype(dtype),
        )
        geometry = geometry_embedding(batch["region_boxes"]).astype(dtype)
        inputs = jnp.concatenate([geometry, appearance], axis=-1)  # [B, R, 2048 + region_width]
        rng = self.make_rng("dropout") if train else None
        inputs = dropout(inputs, config.region_dropout, rng)
        init = uniform(inputs.shape[-1] ** -0.5)
        width = config.region_vector or config.hidden
        project = nn.Dense(
            width,
            dtype=dtype,
            precision=precision(dtype),
            kernel_init=init,
            bias_init=init,
            name="project",
        )
        vectors = nn.relu(project(inputs))
        self.sow("intermediates", "vectors", vectors)
        return vectors


def geometry_embedding(boxes: jax.Array) -> jax.Array:
    """Sines and cosines of box coordinates (SPEC.md "One example", geometry).

    Args:
      boxes: [..., 4] centre x, centre y, width, height as shares of the image's size.

    Returns:
      [..., 2048] in the dtype of `boxes`: for each number 256 sines, then 256 cosines.
    """
    exponent = jnp.arange(256, dtype=boxes.dtype) / 256
    phase = 100 * boxes[..., None] / 1000**exponent  # [..., 4, 256]
    waves = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=-1)
    return waves.reshape(*boxes.shape[:-1], GEOMETRY_WIDTH)


class Embeddings(nn.Module):
    """Slot = LayerNorm(token + visual + segment + position), then dropout."""

    config: Model

    @nn.compact
    def __call__(
        self, batch: Batch, regions: jax.Array, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Region vectors [B, R, width] -> slots [B, L, H], and the token table [rows, H]."""
        config = self.config
        dtype, normal = jnp.dtype(config.dtype), nn.initializers.normal(config.initial_std)
        width = regions.shape[-1]
        tokens = self.param("tokens", _token_table(config), (table_rows(config), config.hidden))
        segments = self.param("segments", normal, (config.segments, config.hidden))
        positions = self.param("positions", normal, (config.positions, config.hidden))

        told, shown = regions, regions  # as text slots and as region slots see them
        if config.text_only:
            no_image = self.param("no_image", normal, (width,)).astype(dtype)
            no_image = jnp.broadcast_to(no_image, (regions.shape[0], 1, width))
        else:
            no_image = jnp.zeros((regions.shape[0], 1, width), dtype)
        told = jnp.concatenate([no_image, told], axis=1)  # [B, 1 + R, width]
        if width != config.hidden:
            told = linear(config.hidden, config.initial_std, dtype, "visual_text")(told)
            shown = linear(config.hidden, config.initial_std, dtype, "visual_region")(shown)
        told = layer_norm(dtype, "visual_text_norm", config.visual_scale_init)(told)
        shown = layer_norm(dtype, "visual_region_norm", config.visual_scale_init)(shown)
        nothing = jnp.zeros_like(told[:, :1])
        visual_table = jnp.concatenate([nothing, told, shown], axis=1)  # [B, 2 + 2R, H]

        is_region = (batch["tokens"] >= config.vocabulary) & (batch["visual"] >= 2)  # [B, L]
        region = jnp.maximum(batch["visual"] - 2, 0)
        replaced = jnp.take_along_axis(batch["region_replaced"], region, axis=1)
        token = batch["tokens"] + (is_region & replaced)
        visual = batch["visual"] + regions.shape[1] * is_region

        slots = tokens[token] + segments[batch["segments"]] + positions[batch["positions"]]
        slots = slots.astype(dtype) + jnp.take_along_axis(visual_table, visual[..., None], axis=1)
        slots = layer_norm(dtype, "norm")(slots)
        self.sow("intermediates", "embedding", slots)
        rng = self.make_rng("dropout") if train else None
        return dropout(slots, config.dropout, rng), tokens


class Encoder(nn.Module):
    """BERT's layers, post-LayerNorm; parameters of all layers stacked along the first axis."""

    config: Model
    window: int

    @nn.compact
    def __call__(self, slots: jax.Array, sequence: jax.Array, train: bool) -> jax.Array:
        """[B, L, H] -> [B, L, H]."""
        config = self.config
        layer = Layer
        if config.remat != "none":
            policies = {"full": None, "dots": jax.checkpoint_policies.dots_saveable}
            layer = nn.remat(
                Layer, static_argnums=(3,), prevent_cse=False, policy=policies[config.remat]
            )
        stack = nn.scan(
            layer,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=config.layers,
            unroll=config.unroll,
        )
        return stack(config, self.window, name="layers")(slots, sequence, train)[0]


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised."""

    config: Model
    window: int

    @nn.compact
    def __call__(self, slots: jax.Array, sequence: jax.Array, train: bool):
        """[B, L, H] -> [B, L, H], None (the form that nn.scan wants)."""
        config, dtype, std = self.config, jnp.dtype(self.config.dtype), self.config.initial_std
        heads, width = config.heads, config.hidden // config.heads

        def rng():
            return self.make_rng("dropout") if train else None

        qkv = linear((3, heads, width), std, dtype, "qkv")(slots)  # [B, L, 3, heads, width]
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        mixed, weights = attend(
            query,
            key,
            value,
            sequence,
            kind=config.attention,
            window=self.window,
            rate=config.attention_dropout,
            rng=rng(),
        )
        self.sow("intermediates", "attention", weights)
        mixed = linear(config.hidden, std, dtype, "attention_out", axis=(-2, -1))(mixed)
        mixed = dropout(mixed, config.dropout, rng())
        slots = layer_norm(dtype, "attention_norm")(slots + mixed)

        wide = nn.gelu(linear(config.mlp, std, dtype, "mlp_in")(slots), approximate=False)
        narrow = linear(config.hidden, std, dtype, "mlp_out")(wide)
        slots = layer_norm(dtype, "mlp_norm")(slots + dropout(narrow, config.dropout, rng()))
        self.sow("intermediates", "layer", slots)
        return slots, None


def _token_table(config: Model) -> jax.nn.initializers.Initializer:
    """Normal rows for words and extra tokens, zeros for the padding of the table."""

    def init(key, shape, dtype=jnp.float32):
        used = config.vocabulary + EXTRA_TOKENS
        rows = config.initial_std * jax.random.normal(key, (used, shape[1]), dtype)
        return jnp.pad(rows, ((0, shape[0] - used), (0, 0)))

    return init
