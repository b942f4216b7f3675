"""The benchmarks' own adapters agree on a tiny network, and the table tells met from missed."""

import pytest
import torch
from benchmarks.peers import Peer, load
from benchmarks.table import bars, best, render, render_bars
from benchmarks.work import Work, directions, vector

import liftscape as ls


def tiny(seed: int = 0) -> Work:
    """A network of 123 parameters with three classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 4, generator=generator)
    model = ls.nets.mlp((4, 15, 3), "relu", dtype=torch.float32, generator=generator)
    return Work("tiny", model, x, torch.randint(3, (40,), generator=generator))


@pytest.fixture(params=["liftscape", "liftscape, rebuilt", "liftscape, unverified", "handwritten, cached"])
def peers(request: pytest.FixtureRequest) -> tuple[Peer, Peer]:
    """One way, and double backward by hand."""
    return load(request.param)(tiny()), load("handwritten")(tiny())


def test_products_eigenvalues_and_surfaces_agree(peers: tuple[Peer, Peer]) -> None:
    one, other = peers
    v = vector(one.work, 3)
    torch.testing.assert_close(one.product(v), other.product(v), rtol=1e-5, atol=1e-6)
    for end in ("top", "bottom"):
        first, second = (getattr(peer, end)(2, 1e-5).double() for peer in (one, other))
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    surfaces = [peer.surface(*directions(one.work), 3) for peer in peers]
    torch.testing.assert_close(surfaces[0], surfaces[1], rtol=1e-5, atol=1e-6)


def test_traces_and_densities_estimate_the_same(peers: tuple[Peer, Peer]) -> None:
    size = peers[0].work.size
    H = torch.stack([peers[0].product(e) for e in torch.eye(size)])
    exact, spread = float(H.trace()), 2**0.5 * float(H.norm())
    for peer in peers:
        assert peer.trace(300) == pytest.approx(exact, abs=4 * spread / 300**0.5)
        # The mean eigenvalue as one probe sees it.
        assert peer.density(size) == pytest.approx(exact / size, abs=4 * spread / size)


def row(peer: str, cpu: float, error: float, task: str = "top10") -> dict:
    """A measured row."""
    measured = {"setup": 0.0, "cpu": cpu, "peak": 2**20, "gradient": 1.0, "stored": 0, "status": "measured"}
    return {"peer": peer, "work": "digits-mlp", "task": task, "effort": cpu, "error": error, **measured}


def test_the_cheapest_that_is_exact_enough_stands_for_its_peer() -> None:
    rows = [row("liftscape", 1.0, 1e-2), row("liftscape", 3.0, 1e-5), row("liftscape", 9.0, 1e-9)]
    assert best(rows) == [rows[1]]


@pytest.mark.parametrize(("ours", "verdict"), [(5.9, "met"), (6.1, "missed")])
def test_bars_compare_with_the_fastest_peer_that_is_exact_enough(ours: float, verdict: str) -> None:
    rows = [
        row("liftscape", ours, 1e-6),
        row("curvlinops", 10.0, 1e-6),
        row("hessian-eigenthings", 1.0, 1e-2),
        row("handwritten", 1.0, 1e-6),
        {"peer": "PyHessian", "work": "digits-mlp", "task": "top10", "status": "failed", "reason": "no", "effort": 0.0},
    ]
    (bar,) = [bar for bar in bars(rows, {}) if bar.what.startswith("digits-mlp: top 10, liftscape /") and bar.value]
    assert (bar.verdict, bar.limit) == (verdict, 0.6)
    assert "curvlinops" in bar.what
    table = render(rows)
    assert "never within" in table
    assert "failed: no" in table
    assert render_bars([bar]).endswith(verdict)
