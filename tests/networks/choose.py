"""Networks as parameters of tests: the quick ones in the default suite, the others in the slow one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tilewright.benchmark.networks import NETWORKS, Network


def networks(wanted: Callable[[Network], bool] = lambda row: True) -> pytest.MarkDecorator:
    """Parametrise the fixture `network`."""
    return pytest.mark.parametrize(
        "network", [_param(row, row.name) for row in NETWORKS.values() if wanted(row)], indirect=True
    )


def networks_on_overlays(wanted: Callable[[Network], bool] = lambda row: True) -> pytest.MarkDecorator:
    """Parametrise the fixture `network` and the argument `target`."""
    rows: Iterable[Network] = (row for row in NETWORKS.values() if wanted(row))
    params = [_param(row, row.name, target) for row in rows for target in row.overlays]
    return pytest.mark.parametrize(("network", "target"), params, indirect=["network"])


def _param(row: Network, *values: str) -> object:
    return pytest.param(*values, id="-".join(values), marks=() if row.quick else pytest.mark.slow)
