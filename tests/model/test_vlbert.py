"""Rows of many examples give what the examples give alone; precision; what is computed where."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import goldens
from tests.made_items import random_item
from vlbert_jax import losses, state

SLOTS, REGIONS, WINDOW = 96, 40, 20  # no item of `random_item` is longer than WINDOW + 1
LAYOUT = goldens.layout_of(goldens.TERMS, slots=SLOTS, regions=REGIONS)


@functools.cache
def evaluator(attention: str, dtype: str):
    """Parameters (the golden's, float64 or float32) and the jitted (loss, sums, logits)."""
    model = goldens.small_model(dtype, attention=attention)
    network = state.make_model(goldens.make_config(model), LAYOUT).clone(window=WINDOW)
    params = goldens.params(goldens.load("pretraining"), model)

    @jax.jit
    def run(params, batch):
        logits = network.apply({"params": params}, batch, train=False)
        sums = losses.term_sums(goldens.TERMS, logits, batch)
        counts = {name: value.count for name, value in sums.items()}
        return losses.total(goldens.TERMS, sums, counts), (sums, logits)

    return params, run, jax.jit(jax.value_and_grad(run, has_aux=True))


items_strategy = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8)), min_size=2, max_size=5)


@hypothesis.given(sizes=items_strategy, seed=st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=10)
@pytest.mark.parametrize("attention", ["plain", "window"])
def test_packed_equals_unpacked(attention, sizes, seed):
    """Losses and gradients of one packed row = those of one row an item (float64)."""
    rng = np.random.default_rng(seed)
    items = [random_item(rng, n, *size) for n, size in enumerate(sizes)]
    with goldens.precision("float64"):
        params, _, gradient = evaluator(attention, "float64")
        _, _, gradient_plain = evaluator("plain", "float64")
        apart = [[item] for item in items] + [[]] * (5 - len(items))
        packed = goldens.batch_of([items] + [[]] * 4, LAYOUT, "float64")
        unpacked = goldens.batch_of(apart, LAYOUT, "float64")
        (loss, (sums, _)), gradients = gradient(params, packed)
        (expected, (expected_sums, _)), expected_gradients = gradient_plain(params, unpacked)
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), sums, expected_sums)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11),
        gradients,
        expected_gradients,
    )


@pytest.mark.parametrize("attention", ["plain", "window"])
def test_no_leak_between_examples_of_a_row(attention):
    """Change all of the first example: the second's logits and gradients keep every bit (H25)."""
    rng = np.random.default_rng(0)
    first, other, second = (random_item(rng, n, 7, 6) for n in range(3))
    params, run, gradient = evaluator(attention, "float32")

    def batch(item):
        return goldens.batch_of([[item, second]], LAYOUT, "float32")

    def only_second(batch, item):  # no target of the first item counts
        for name in goldens.TERMS:
            weight = batch[f"{name}_weight"]
            weight[:, : len(item.targets[name].slot) if name in item.targets else 0] = 0
        return batch

    outputs, gradients = [], []
    for item in (first, other):
        _, (_, logits) = run(params, batch(item))
        outputs.append(
            [
                np.asarray(logits[name])[0][len(item.targets[name].slot) :][
                    : len(second.targets[name].slot)
                ]
                for name in second.targets
            ]
        )
        gradients.append(gradient(params, only_second(batch(item), item))[1])
    jax.tree.map(np.testing.assert_array_equal, outputs[0], outputs[1])
    jax.tree.map(np.testing.assert_array_equal, gradients[0], gradients[1])


@pytest.mark.parametrize("attention", ["plain", "window"])
def test_padding_gets_and_gives_nothing(attention):
    """Garbage in padded slots and regions changes no bit of loss or gradients."""
    rng = np.random.default_rng(1)
    items = [random_item(rng, n, 6, 4) for n in range(3)]
    params, _, gradient = evaluator(attention, "float32")
    clean = goldens.batch_of([items], LAYOUT, "float32")
    dirty = {name: array.copy() for name, array in clean.items()}
    padding = clean["sequence"] == 0
    dirty["tokens"][padding] = rng.integers(0, 61, padding.sum())
    dirty["positions"][padding] = 7
    dirty["visual"][padding] = 3
    free = ~clean["region_valid"]
    dirty["region_features"][free] = 5.0
    dirty["region_boxes"][free] = 0.3
    first, second = gradient(params, clean), gradient(params, dirty)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_dropout_differs_by_step_and_is_off_in_evaluation():
    rng = np.random.default_rng(2)
    batch = goldens.batch_of([[random_item(rng, 0, 9, 8)]], LAYOUT, "float32")
    model = goldens.small_model("float32", dropout=0.1, attention_dropout=0.1, region_dropout=0.1)
    network = state.make_model(goldens.make_config(model), LAYOUT)
    params = goldens.params(goldens.load("pretraining"), model)

    def logits(seed, train):
        rngs = {"dropout": jax.random.key(seed)}
        out = network.apply({"params": params}, batch, train=train, rngs=rngs)
        return np.asarray(out["mlm_caption"])

    assert np.array_equal(logits(0, True), logits(0, True))
    assert not np.array_equal(logits(0, True), logits(1, True))
    assert np.array_equal(logits(0, False), logits(1, False))


class TestBfloat16:
    """bfloat16 products; parameters, softmax, LayerNorm statistics, losses in float32 (H20)."""

    def test_loss_is_near_float32_and_keeps_its_bits(self):
        rng = np.random.default_rng(3)
        items = [random_item(rng, n, 9, 8) for n in range(4)]
        batch = goldens.batch_of([items], LAYOUT, "float32")
        params, run, _ = evaluator("plain", "float32")
        _, run16, _ = evaluator("plain", "bfloat16")
        exact, (_, logits) = run(params, batch)
        rough, (sums, logits16) = run16(params, batch)
        assert abs(rough / exact - 1) < 5e-3
        assert all(value.dtype == jnp.float32 for value in jax.tree.leaves((sums, logits16)))
        per_target = -jax.nn.log_softmax(logits16["mlm_caption"][0, :8])[:, 5]
        assert (np.asarray(per_target) * 32 % 1 != 0).any()
        assert float(np.abs(logits16["mlm_caption"] - logits["mlm_caption"])[0, :8].max()) > 0

    def test_dtypes_in_the_program(self):
        """Reads the jaxpr: softmax, losses and LayerNorm see float32 only, and the products of
        forward and backward pass bfloat16 only."""
        rng = np.random.default_rng(4)
        batch = goldens.batch_of([[random_item(rng, 0, 9, 8)]], LAYOUT, "float32")
        params, _, gradient = evaluator("plain", "bfloat16")
        program = jax.make_jaxpr(gradient)(params, batch)
        seen = {}
        for equation in _equations(program.jaxpr):
            kinds = {str(v.aval.dtype) for v in equation.invars if hasattr(v.aval, "dtype")}
            seen.setdefault(equation.primitive.name, set()).update(kinds)
        for primitive in ("rsqrt", "reduce_max", "log"):
            assert seen[primitive] == {"float32"}, primitive
        products = [
            sorted(str(v.aval.dtype) for v in equation.invars)
            for equation in _equations(program.jaxpr)
            if equation.primitive.name == "dot_general"
        ]
        assert products.count(["bfloat16", "bfloat16"]) == len(products) >= 40
        gradients = program.out_avals[5:]
        assert all(str(aval.dtype) == "float32" for aval in gradients)

    def test_softmax_rows_sum_to_one(self):
        rng = np.random.default_rng(5)
        batch = goldens.batch_of([[random_item(rng, 0, 9, 8)]], LAYOUT, "float32")
        model = goldens.small_model("bfloat16", attention="plain")
        network = state.make_model(goldens.make_config(model), LAYOUT)
        params = goldens.params(goldens.load("pretraining"), model)
        _, kept = network.apply({"params": params}, batch, train=False, mutable="intermediates")
        weights = kept["intermediates"]["encoder"]["layers"]["attention"][0]
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-3)


def test_float32_products_are_asked_for_in_full():
    """Else GPUs would take TF32 and TPUs bfloat16; forward and backward."""
    rng = np.random.default_rng(7)
    batch = goldens.batch_of([[random_item(rng, 0, 9, 8)]], LAYOUT, "float32")
    for attention in ("plain", "window"):
        params, _, gradient = evaluator(attention, "float32")
        program = jax.make_jaxpr(gradient)(params, batch)
        full = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
        asked = [
            equation.params["precision"]
            for equation in _equations(program.jaxpr)
            if equation.primitive.name == "dot_general"
        ]
        assert len(asked) >= 40
        assert set(asked) == {full}


def _equations(jaxpr):
    """All equations, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


@pytest.mark.parametrize("remat", ["dots", "full"])
@pytest.mark.parametrize("unroll", [1, 2])
def test_remat_and_unroll_change_no_value(remat, unroll):
    rng = np.random.default_rng(6)
    items = [random_item(rng, n, 8, 5) for n in range(4)]
    with goldens.precision("float64"):
        batch = goldens.batch_of([items], LAYOUT, "float64")
        params, _, gradient = evaluator("plain", "float64")
        model = goldens.small_model("float64", attention="plain", remat=remat, unroll=unroll)
        network = state.make_model(goldens.make_config(model), LAYOUT)

        def loss_fn(params):
            logits = network.apply({"params": params}, batch, train=False)
            sums = losses.term_sums(goldens.TERMS, logits, batch)
            counts = {name: value.count for name, value in sums.items()}
            return losses.total(goldens.TERMS, sums, counts)

        loss, gradients = jax.jit(jax.value_and_grad(loss_fn))(params)
        (expected, _), expected_gradients = gradient(params, batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13),
        gradients,
        expected_gradients,
    )
