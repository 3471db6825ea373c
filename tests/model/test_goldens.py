"""Forward pass, losses and gradients against the original implementation."""

import functools

import jax
import numpy as np
import pytest

from tests import goldens
from vlbert_jax import losses, state
from vlbert_jax.model import names
from vlbert_jax.model.heads import RelationHead
from vlbert_jax.model.vlbert import Embeddings, Encoder, geometry_embedding

# Ten times the noise of the original's float32 run, as shares of a tensor's largest value; for
# gradients absolute, too (`key.bias` has a gradient of 0 in theory).
CASES = {
    "pretraining": dict(outputs=2e-5, gradients=4.5e-5, absolute=1.6e-4, loss=2e-6, model={}),
    "pretraining_base_cfg": dict(
        outputs=7e-6, gradients=3.2e-5, absolute=7e-5, loss=3e-6, model={"relation": False}
    ),
    "wide_visual": dict(
        outputs=2.4e-5,
        gradients=3.8e-5,
        absolute=3.5e-5,
        loss=2e-5,
        model={"region_vector": 40, "text_only": False},
    ),
}
LAYOUTS = [("unpacked", "plain"), ("packed", "window")]


@functools.cache
def run(name: str, dtype: str, layout_name: str, attention: str):
    """(sums, losses, logits, intermediates, gradients, items, model) of our implementation."""
    golden = goldens.load(name)
    changes = CASES[name]["model"]
    model = goldens.small_model(dtype, attention=attention, **changes)
    terms = goldens.terms_of(model)
    items = goldens.items(goldens.part(golden, "inputs/"), model)
    # A row of 24 slots holds any one item, and makes several windows of a packed row of 160.
    grouped = [[item] for item in items] if layout_name == "unpacked" else [items]
    with goldens.precision(dtype):
        layout = goldens.layout_of(terms)
        batch = goldens.batch_of(grouped, layout, goldens.float_dtype(model))
        network = state.make_model(goldens.make_config(model), layout).clone(window=24)
        params = goldens.params(golden, model)

        def loss_fn(params):
            logits, kept = network.apply(
                {"params": params}, batch, train=False, mutable="intermediates"
            )
            sums = losses.term_sums(terms, logits, batch)
            counts = {term: value.count for term, value in sums.items()}
            return losses.total(terms, sums, counts), (sums, logits, kept["intermediates"])

        (loss, (sums, logits, kept)), gradients = jax.jit(
            jax.value_and_grad(loss_fn, has_aux=True)
        )(params)
        return (
            jax.tree.map(
                np.asarray,
                dict(
                    loss=loss,
                    means={term: value.loss / value.count for term, value in sums.items()},
                    counts={term: value.count for term, value in sums.items()},
                    logits=logits,
                    kept=kept,
                    gradients=names.to_release(jax.tree.map(np.asarray, gradients), model),
                ),
            ),
            items,
            model,
        )


def limit(name: str, dtype: str, what: str) -> float:
    return goldens.STRICT if dtype == "float64" else CASES[name][what]


@pytest.mark.parametrize(("layout", "attention"), LAYOUTS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
class TestPretraining:
    def test_losses(self, name, dtype, layout, attention):
        ours, _, _ = run(name, dtype, layout, attention)
        golden = goldens.load(name)
        theirs = {
            "mlm_caption": "mlm_loss" if name == "wide_visual" else "mlm_loss_wvc",
            "mlm_text": "mlm_loss_aux",
            "region_class": "mvrc_loss",
            "relation": "relationship_loss",
        }
        for term, value in ours["means"].items():
            expected = golden[f"outputs/{theirs[term]}"]
            assert goldens.deviation(value, expected) < limit(name, dtype, "loss"), term
        assert goldens.deviation(ours["loss"], golden["outputs/loss"]) < limit(name, dtype, "loss")
        assert ours["counts"]["region_class"] == (4 if name == "pretraining" else 3)

    def test_gradients(self, name, dtype, layout, attention):
        ours, _, _ = run(name, dtype, layout, attention)
        expected = goldens.part(goldens.load(name), "grads/")
        assert set(ours["gradients"]) == set(expected) - set(names.TIED)
        for tensor, gradient in ours["gradients"].items():
            if tensor.endswith("attention.self.key.bias"):
                assert np.abs(gradient - expected[tensor]).max() < CASES[name]["absolute"]
                continue
            deviation = goldens.deviation(gradient, expected[tensor])
            assert deviation < limit(name, dtype, "gradients"), tensor

    def test_slots(self, name, dtype, layout, attention):
        """Region vectors, embeddings and every layer, example by example."""
        ours, items, _ = run(name, dtype, layout, attention)
        golden = goldens.load(name)
        layers = ours["kept"]["encoder"]["layers"]["layer"][0]  # [layers, B, L, H]
        kept = {
            "embedding": ours["kept"]["embeddings"]["embedding"][0],
            "encoder_layer_0": layers[0],
            "encoder_layer_1": layers[1],
        }
        for what, array in kept.items():
            for number, (row, first) in enumerate(_places(items, layout, "tokens")):
                length = len(items[number].tokens)
                deviation = goldens.deviation(
                    array[row, first : first + length], golden[f"outputs/{what}"][number, :length]
                )
                assert deviation < limit(name, dtype, "outputs"), (what, number)
        vectors = ours["kept"]["regions"]["vectors"][0]
        for number, (row, first) in enumerate(_places(items, layout, "region_boxes")):
            length = len(items[number].region_boxes)
            if not length:
                continue
            deviation = goldens.deviation(
                vectors[row, first : first + length],
                golden["outputs/region_vectors"][number, :length],
            )
            assert deviation < limit(name, dtype, "outputs"), number

    def test_logits(self, name, dtype, layout, attention):
        ours, items, model = run(name, dtype, layout, attention)
        golden = goldens.load(name)
        captions = len(goldens.part(golden, "inputs/")["text"])
        words = "mlm_logits" if name == "wide_visual" else "mlm_logits_wvc"
        for term in ours["logits"]:
            expected = []
            for number, item in enumerate(items):
                if term not in item.targets:
                    continue
                slot = item.targets[term].slot
                if term == "mlm_caption":
                    expected.append(golden[f"outputs/{words}"][number][slot])
                elif term == "mlm_text":
                    expected.append(golden["outputs/mlm_logits_aux"][number - captions][slot])
                elif term == "region_class":
                    text = int((item.segments == 0).sum())
                    expected.append(golden["outputs/mvrc_logits"][number][slot - text])
                else:
                    expected.append(golden["outputs/relationship_logits"][number][None])
            expected = np.concatenate(expected)
            weights = ours_weights(items, term, layout)
            logits = ours["logits"][term].reshape(-1, ours["logits"][term].shape[-1])[weights]
            if term.startswith("mlm"):
                assert (logits[:, model.vocabulary :] < -1e8).all()
                logits = logits[:, : model.vocabulary]
            assert goldens.deviation(logits, expected) < limit(name, dtype, "outputs"), term


def ours_weights(items, term: str, layout: str) -> np.ndarray:
    """Flat indices of the term's targets in [B, K]."""
    capacity = goldens.TERMS[term].capacity
    counts = [len(item.targets[term].slot) if term in item.targets else 0 for item in items]
    if layout == "packed":
        return np.arange(sum(counts))
    return np.concatenate([row * capacity + np.arange(n) for row, n in enumerate(counts)])


def _places(items, layout: str, field: str) -> list[tuple[int, int]]:
    """(row, first slot or region) of every item."""
    if layout == "unpacked":
        return [(row, 0) for row in range(len(items))]
    lengths = [len(getattr(item, field)) for item in items]
    return [(0, first) for first in np.cumsum([0, *lengths[:-1]])]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_encoder(dtype):
    """The encoder alone: vectors of words' regions and of [IMG]s are given, one by one."""
    golden = goldens.load("encoder")
    model = goldens.small_model(dtype, attention="plain", text_only=False)
    text, objects = golden["inputs/text_mask"], golden["inputs/object_mask"]
    vectors = golden["inputs/object_vl_embeddings"]
    examples, most_regions = len(text), 9 + 6
    length = golden["outputs/embedding"].shape[1]

    # Every word speaks of a region of its own; every region has a token of its own, which stands
    # in the token table behind [END].
    batch = {
        name: np.zeros((examples, length), np.int32)
        for name in ("tokens", "segments", "positions", "visual", "sequence")
    }
    regions = np.zeros((examples, most_regions, 32))
    own_tokens = []
    for b in range(examples):
        t, r = text[b].sum(), objects[b].sum()
        regions[b, :t] = golden["inputs/text_visual_embeddings"][b, :t]
        regions[b, 9 : 9 + r] = vectors[b, :r, :32]
        first_own = 61 + 3 + len(own_tokens)
        own_tokens.extend(vectors[b, :r, 32:])
        used = t + r + 1
        batch["tokens"][b, :used] = np.r_[
            golden["inputs/text_input_ids"][b, :t], first_own + np.arange(r), 61 + 2
        ]
        batch["segments"][b, :used] = np.r_[
            golden["inputs/text_token_type_ids"][b, :t], [2] * (r + 1)
        ]
        batch["positions"][b, :used] = np.r_[np.arange(t), [t] * r, t + 1]
        batch["visual"][b, :used] = np.r_[2 + np.arange(t), 2 + 9 + np.arange(r), 0]
        batch["sequence"][b, :used] = 1
    batch["region_replaced"] = np.zeros((examples, most_regions), bool)

    def tensor(name: str) -> np.ndarray:
        return golden["weights/" + name.removeprefix("vlbert.")]

    with goldens.precision(dtype):
        params = _encoder_params(tensor, model)
        params["embeddings"]["tokens"][64 : 64 + len(own_tokens)] = own_tokens
        slots, _ = Embeddings(model).apply(
            {"params": params["embeddings"]}, batch, regions.astype(dtype), train=False
        )
        encoded, kept = Encoder(model, window=39).apply(
            {"params": params["encoder"]},
            slots,
            batch["sequence"],
            train=False,
            mutable="intermediates",
        )
        head = RelationHead(32, 0.02, np.dtype(dtype))
        _, head_kept = head.apply(
            {"params": params["relation_head"]}, encoded[:, :1], mutable="intermediates"
        )
    layers = kept["intermediates"]["layers"]
    pairs = {
        "embedding": slots,
        "encoder_layer_0": layers["layer"][0][0],
        "encoder_layer_1": encoded,
    }
    bound = goldens.STRICT if dtype == "float64" else 1.2e-5
    for b in range(examples):
        used = text[b].sum() + objects[b].sum() + 1
        for what, array in pairs.items():
            expected = golden[f"outputs/{what}"][b, :used]
            assert goldens.deviation(array[b, :used], expected) < bound, (what, b)
        for layer in range(2):
            weights = layers["attention"][0][layer][b, :, :used, :used]
            expected = golden[f"outputs/attention_probs_{layer}"][b, :, :used, :used]
            assert goldens.deviation(weights, expected) < bound, (layer, b)
    pooled = head_kept["intermediates"]["pooled"][0][:, 0]
    assert goldens.deviation(pooled, golden["outputs/pooled"]) < bound


def _encoder_params(tensor, model):
    """Our tree with the encoder's weights; what the encoder does not have stays 0."""
    layout = goldens.layout_of(goldens.terms_of(model))
    network = state.make_model(goldens.make_config(model), layout)
    shapes = jax.eval_shape(lambda: state.init_params(network, layout, seed=0))
    has = {"word_embeddings", "end_embedding", "position_embeddings", "token_type_embeddings"}
    has |= {"embedding_LayerNorm", "visual_ln_text", "visual_ln_object", "encoder", "pooler"}
    shape_of = {entry.name: entry.shape for entry in names.entries(model)}

    def known(name: str) -> np.ndarray:
        if name.removeprefix("vlbert.").split(".")[0] in has:
            return tensor(name)
        return np.zeros(shape_of[name])

    tree = names.from_release(known, model, shapes)
    return jax.tree.map(lambda x: x.astype(model.dtype), tree)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_geometry(dtype):
    golden = goldens.load("geometry")
    x1, y1, x2, y2 = golden["inputs/boxes_xyxy"].astype(np.float64).T
    width, height = golden["inputs/image_wh"].astype(np.float64).T
    shares = np.stack(
        [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], 1
    )
    with goldens.precision(dtype):
        ours = geometry_embedding(jax.numpy.asarray(shares, dtype))
    bound = goldens.STRICT if dtype == "float64" else 1.4e-4
    assert goldens.deviation(ours, golden["outputs/embedding"]) < bound
