"""The tables name what the stock models have, and each axis is what it is called."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from espalier.models.families import body_prefix, layout, num_parameters, probes, shape_of
from espalier.models.shape import Parameter
from support.architectures import CONFIGS, build, output, tokens

every_family = pytest.mark.parametrize("name", CONFIGS)


@every_family
def test_names_order_and_shapes_are_those_of_the_stock_model(name):
    model = build(CONFIGS[name])
    assert [(n, p.shape) for n, p in layout(CONFIGS[name]).items()] == [
        (n, tuple(p.shape)) for n, p in model.named_parameters()
    ]


@every_family
def test_a_config_that_stock_code_wrote_reads_the_same(name, tmp_path):
    build(CONFIGS[name]).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert layout(written) == layout(CONFIGS[name])
    assert shape_of(written) == shape_of(CONFIGS[name])


@every_family
def test_the_count_is_exact(name):
    assert num_parameters(CONFIGS[name]) == sum(p.numel() for p in build(CONFIGS[name]).parameters())


@every_family
def test_a_permutation_along_an_axis_leaves_the_function(name):
    """Holds only where every dimension of every parameter carries its right axis, fused parts included."""
    config, model = CONFIGS[name], build(CONFIGS[name])
    before = output(model, tokens())
    orders = _Orders(config)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for parameter_name, parameter in layout(config).items():
            target = parameters[parameter_name]
            for dim, index in enumerate(orders.entries(parameter)):
                target.copy_(target.index_select(dim, index))
    after = output(model, tokens())
    if name == "bert":  # its output is the hidden axis itself
        before = before[..., orders.order("hidden", None)]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@every_family
def test_probes_and_body_are_modules_of_the_stock_model(name):
    config, model = CONFIGS[name], build(CONFIGS[name])
    shape = shape_of(config)
    assert len(probes(config)) == shape.layers
    for probe in probes(config):
        assert {p.split(".layer" if "layer" in probe.layer else ".h")[0] for p in (probe.down, probe.output)}
        sizes = {
            probe.down: shape.ffn,
            probe.output: shape.heads * shape.head_dim,
        }
        for path, size in sizes.items():
            weight = model.get_submodule(path).weight
            inputs = 0 if shape.family == "gpt2" else 1
            assert path.startswith(probe.layer) and weight.shape[inputs] == size
        for path in probe.norms:
            assert path.startswith(probe.layer) and model.get_submodule(path).weight.shape == (shape.hidden,)
    assert model.get_submodule(body_prefix(config)) is model.base_model


def test_reading_tables_imports_no_torch():
    code = "import espalier.models.families, espalier.surgery.search, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class _Orders:
    """A random order of the units of each axis; heads move inside their group, shared KV heads stay."""

    def __init__(self, config: dict[str, object]) -> None:
        self._shape = shape_of(config)
        self._made: dict[tuple[str, int | None], torch.Tensor] = {}
        self._generator = torch.Generator().manual_seed(11)

    def order(self, kind: str, layer: int | None) -> torch.Tensor:
        key = (kind, None if kind == "hidden" else layer)
        if key not in self._made:
            self._made[key] = self._draw(kind)
        return self._made[key]

    def _draw(self, kind: str) -> torch.Tensor:
        if kind != "heads":
            return torch.randperm(getattr(self._shape, kind), generator=self._generator)
        groups, size = self._shape.head_groups, self._shape.heads // self._shape.head_groups
        drawn = [g * size + torch.randperm(size, generator=self._generator) for g in range(groups)]
        return torch.cat(drawn)

    def entries(self, parameter: Parameter) -> list[torch.Tensor]:
        return [self._dimension(dimension, parameter.layer) for dimension in parameter.dimensions]

    def _dimension(self, dimension, layer: int | None) -> torch.Tensor:
        parts, start = [], 0
        for part in dimension:
            entries = torch.arange(start, start + part.size).view(part.units, part.width)
            if part.kind in ("hidden", "ffn", "heads"):
                entries = entries[self.order(part.kind, layer)]
            parts.append(entries.flatten())
            start += part.size
        return torch.cat(parts)
