"""Integer level (Relax by llvm), reference simulator and fast simulator give the same bits on real networks."""

from __future__ import annotations

import pytest
from tests.networks.choose import networks, networks_on_overlays
from tests.networks.store import Store

from tilewright.benchmark.levels import compare_layer, compare_package, distinct_layers
from tilewright.evaluation import package_feeds
from tilewright.relay_passes.regions import find_regions
from tilewright.targets.config import overlay


@networks_on_overlays(lambda row: not row.big)
def test_whole(network: str, target: str, store: Store) -> None:
    package = store.package(network, target)
    feeds, _ = next(iter(store.case(network).evaluation(1)))
    found = compare_package(package, store.quantised(network), package_feeds(package, feeds))
    assert [c for c in found if not c.equal] == []
    assert [c.name for c in found] == [region.name for region in package.regions]


@networks(lambda row: row.big)
def test_every_layer_of_a_shape_of_its_own(network: str, store: Store) -> None:
    machine = overlay(store.case(network).row.overlays[0])
    nodes = list(distinct_layers(find_regions(store.quantised(network).relax(), machine).graphs))
    assert nodes
    found = [compare_layer(node, machine) for node in nodes]
    assert [c for c in found if not c.equal] == []


def test_a_difference_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: a simulator that changes one byte is told."""
    from tilewright.targets.sim import fast

    run = fast.run

    def wrong(*args: object) -> object:
        result = run(*args)  # type: ignore[arg-type]
        result.outputs[:] ^= 1
        return result

    monkeypatch.setattr(fast, "run", wrong)
    package = store.package("demo", "ultra96-w8")
    feeds, _ = next(iter(store.case("demo").evaluation(1)))
    (found,) = compare_package(package, store.quantised("demo"), package_feeds(package, feeds))
    assert found.reference_differs == found.integer_differs == found.elements == 10
