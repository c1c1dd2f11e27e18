"""`benchmark runtime`: its figures fit together, and it judges by them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tilewright.benchmark import host_overhead
from tilewright.benchmark.host_overhead import MOST_US, main


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    from tilewright.benchmark.networks import NETWORKS

    return host_overhead.measure(NETWORKS["demo"].open(None), "ultra96-w8", 20)


def test_the_parts_of_an_inference(measured: dict[str, Any]) -> None:
    assert measured["equal"]
    assert 0 < measured["launch_us"] < measured["cpp_us"] < measured["python_us"]
    assert measured["operators_us"] > 0 and measured["pack_us"] > 0
    assert measured["first_ms"] > measured["of_it_launch_ms"] > 0


@pytest.mark.parametrize(
    ("change", "code"),
    [({"overhead_us": MOST_US - 1}, 0), ({"overhead_us": MOST_US}, 1), ({"equal": False}, 1)],
)
def test_the_verdict(
    change: dict[str, Any],
    code: int,
    measured: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = measured | {"overhead_us": 1.0} | change
    monkeypatch.setattr(host_overhead, "measure", lambda *_: row)
    assert main(["demo", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == [{"network": "demo"} | row]
    assert document["limit"] == f"overhead below 100 us: {'missed' if code else 'met'}"
