"""From rows of measurements to a table that says what is met and what is missed; computes no curvature."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

__all__ = ["Bar", "bars", "best", "render", "render_bars"]

Row = dict[str, Any]
# The error at which times for eigenvalues are compared.
ENOUGH = 1e-4
_OURS = "liftscape"
_UNVERIFIED = "liftscape, unverified"
_BY_HAND = ("handwritten", "handwritten, cached")


@dataclass(frozen=True)
class Bar:
    """A ratio with the most that it may be."""

    what: str
    value: float | None
    limit: float
    reason: str = ""

    @property
    def verdict(self) -> str:
        """One of "met", "missed" and "not measured"."""
        if self.value is None:
            return "not measured"
        return "met" if self.value <= self.limit else "missed"


def seconds(row: Row) -> float:
    """Return what a task costs its user: with setting up, but a product alone."""
    return row["cpu"] + (0.0 if row["task"] == "hvp" else row["setup"])


def best(rows: Iterable[Row]) -> list[Row]:
    """Keep of each peer, work and task one row: the cheapest that is exact enough, else the most exact.

    Args:
        rows: of several settings and repetitions.

    Returns:
        One row each, in the order of first appearance.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["work"], row["task"], row["peer"]), []).append(row)
    return [_best_of(group) for group in groups.values()]


def _best_of(group: list[Row]) -> Row:
    """Return the row that stands for its group."""
    measured = [row for row in group if row["status"] == "measured"]
    if not measured:
        return group[0]
    by_error = lambda row: inf if row["error"] is None else row["error"]
    if not group[0]["task"].startswith(("top", "bottom")):
        return min(measured, key=seconds)
    enough = [row for row in measured if row["error"] is None or row["error"] <= ENOUGH]
    return min(enough, key=seconds) if enough else min(measured, key=by_error)


def render(rows: Iterable[Row]) -> str:
    """Return the table: a block for each work and task, a line for each peer."""
    lines: list[str] = []
    blocks: dict[tuple[str, str], list[Row]] = {}
    for row in best(rows):
        blocks.setdefault((row["work"], row["task"]), []).append(row)
    for (work, task), block in blocks.items():
        ours = next((seconds(r) for r in block if r["peer"] == _OURS and r["status"] == "measured"), None)
        lines.append(f"{work}, {task}")
        lines.append(f"  {'':<20} {'CPU s':>9} {'gradients':>9} {'× ours':>7} {'peak MiB':>8} {'error':>8}")
        lines += [_line(row, ours) for row in block]
        lines.append("")
    return "\n".join(lines)


def _line(row: Row, ours: float | None) -> str:
    """Return one peer's line."""
    if row["status"] != "measured":
        return f"  {row['peer']:<20} {row['status']}: {row['reason']}"
    time = seconds(row)
    ratio = "" if not ours else f"{time / ours:.2f}"
    error = "" if row["error"] is None else f"{row['error']:.1e}"
    note = "" if not row["effort"] else f"  setting {row['effort']:g}"
    if row["task"].startswith(("top", "bottom")) and row["error"] is not None and row["error"] > ENOUGH:
        note += f", never within {ENOUGH:g}"
    gradients = time / row["gradient"]
    return f"  {row['peer']:<20} {time:>9.4g} {gradients:>9.1f} {ratio:>7} {row['peak'] / 2**20:>8.1f} {error:>8}{note}"


def bars(rows: Iterable[Row], micro: Row) -> list[Bar]:
    """Return the ratios that must hold.

    Args:
        rows: all rows of a run.
        micro: by name the ratios of benchmarks.micro.

    Returns:
        The bars; without a value where something they need was not measured.
    """
    table = {(row["work"], row["task"], row["peer"]): row for row in best(rows) if row["status"] == "measured"}
    made = [
        Bar(f"{work}: {what}", micro.get(f"{work} {name}"), limit)
        for work, gradients in (("digits-mlp", 2.3), ("resnet18", 2.7))
        for what, name, limit in (
            ("product in gradients, graph kept", "kept/gradient", gradients),
            ("product / handwritten, kept", "kept/handwritten", 1.05),
            ("product / handwritten, rebuilt", "rebuilt/handwritten", 1.05),
        )
    ]
    for what, name in (("one against 30", "reorthogonalise"), ("30 against each other", "reorthogonalise each other")):
        made.append(Bar(f"vectors of 11.2 M, {what}: reorthogonalisation / loop", micro.get(f"{name}/loop"), 1 / 3))
    made.append(Bar("256 networks 1-50-50-1: ensemble / loop", micro.get("ensemble/loop"), 1 / 4.5))
    made += [Bar(f"Monitor: {name}", value, 0.1) for name, value in micro.items() if name.startswith("record/")]
    for ours, hand in ((_OURS, "handwritten, cached"), ("liftscape, rebuilt", "handwritten")):
        peaks = [table.get(("resnet18", "hvp", peer)) for peer in (ours, hand)]
        value = peaks[0]["peak"] / peaks[1]["peak"] if peaks[0] and peaks[1] else None
        made.append(Bar(f"resnet18: peak memory of a product, {ours} / {hand}", value, 1.05))
    top, hand = (table.get(("resnet18", *key)) for key in (("top10", _OURS), ("hvp", "handwritten, cached")))
    value = top["peak"] / (hand["peak"] + top["stored"]) if top and hand else None
    made.append(Bar("resnet18: peak memory of the top 10 / handwritten product and stored vectors", value, 1.05))
    for work in ("digits-mlp", "resnet18"):
        made += [_top(table, work, _UNVERIFIED), _top(table, work, _OURS)]
        made += _density(table, work)
    return made


def _top(table: dict[tuple[str, str, str], Row], work: str, name: str) -> Bar:
    """Compare one of ours with the fastest peer that is exact enough; peers verify nothing."""
    rows = [row for (w, task, _), row in table.items() if w == work and task == "top10"]
    exact = [row for row in rows if row["error"] is not None and row["error"] <= ENOUGH]
    ours = next((row for row in exact if row["peer"] == name), None)
    peers = [row for row in exact if row["peer"] not in {_OURS, _UNVERIFIED, *_BY_HAND}]
    if ours is None or not peers:
        return Bar(f"{work}: top 10, {name} / fastest peer", None, 0.6)
    fastest = min(peers, key=seconds)
    return Bar(f"{work}: top 10, {name} / fastest peer, {fastest['peer']}", seconds(ours) / seconds(fastest), 0.6)


def _density(table: dict[tuple[str, str, str], Row], work: str) -> list[Bar]:
    """Compare with hessian-eigenthings, for each number of steps that was run."""
    tasks = [task for (w, task, peer) in table if w == work and task.startswith("density") and peer == _OURS]
    made = []
    for task in tasks or ["density100"]:
        ours, theirs = (table.get((work, task, peer)) for peer in (_OURS, "hessian-eigenthings"))
        value = seconds(ours) / seconds(theirs) if ours and theirs else None
        made.append(Bar(f"{work}: {task} / hessian-eigenthings", value, 0.8))
    return made


def render_bars(made: Iterable[Bar]) -> str:
    """Return a line for each bar."""
    lines = list(made)
    width = max(len(bar.what) for bar in lines)
    values = ["" if bar.value is None else f"{bar.value:.3f}" for bar in lines]
    return "\n".join(
        f"{bar.what:<{width}}  {value:>7}  ≤ {bar.limit:.2f}  {bar.verdict}"
        for bar, value in zip(lines, values, strict=True)
    )
