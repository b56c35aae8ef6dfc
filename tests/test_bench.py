"""The benchmark's harness: paired ratios, verdicts, and contenders that are missing."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench.py"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCH.parent))
    yield importlib.import_module("bench")
    sys.path.remove(str(BENCH.parent))


@pytest.fixture(scope="module")
def rows(bench):
    return importlib.import_module("peers.rows")


def finished(bench, seconds, **claim):
    """A worker that has measured, without its process."""
    worker = object.__new__(bench.Worker)
    worker.contender = bench.Contender("it", "nothing", **claim)
    worker.seconds, worker.missing, worker.report = seconds, None, {"accuracy": 0.5, "peak_mb": 100.0}
    return worker


def test_ratios_are_taken_within_a_round(bench):
    ours, peer = finished(bench, [1.0, 10.0, 3.0]), finished(bench, [2.0, 10.0, 2.0], goal=1.1)
    assert bench.verdict(ours, peer) == ("1.00 [0.50, 1.50]", "<= 1.1 x yes")
    assert bench.verdict(ours, finished(bench, [0.5, 5.0, 1.0], goal=1.1))[1] == "<= 1.1 x NO"


def test_a_limit_holds_the_contender_itself(bench):
    slow = finished(bench, [2.0, 3.0, 9.0], limit=2.5)
    assert bench.verdict(slow, slow) == ("", "<= 2.5 s NO")
    quick = finished(bench, [2.0, 2.0, 9.0], limit=2.5)
    assert bench.verdict(quick, quick) == ("", "<= 2.5 s yes")


def test_no_verdict_without_a_measurement(bench):
    ours, peer = finished(bench, []), finished(bench, [1.0], goal=1.1)
    assert bench.verdict(ours, peer) == ("", "<= 1.1 x")


def test_contenders_run_in_processes_of_their_own_and_missing_ones_are_named(bench, rows):
    row = bench.Row("made_up", "s", (rows.command("nothing", "-c", "pass"), bench.Contender("absent", "no_such_peer")))
    there, absent = bench.measure(row, rounds=2)
    assert len(there.seconds) == 2
    assert 0 < min(there.seconds) < 30
    assert absent.missing == "No module named 'peers.no_such_peer'"
    table = "\n".join(bench.lines(row, [there, absent]))
    assert "left out: No module named" in table


def test_a_command_that_fails_is_not_a_fast_command(bench, rows, capfd):
    row = bench.Row("made_up", "s", (rows.command("fails", "-c", "raise SystemExit(3)"),))
    [worker] = bench.measure(row, rounds=1)
    assert worker.seconds == []
    assert worker.missing
    assert "returned non-zero exit status 3" in capfd.readouterr().err


def test_the_record_has_every_sample(bench, rows, tmp_path, monkeypatch, capsys):
    row = bench.Row("made_up", "s", (rows.command("nothing", "-c", "pass"),), quick=True)
    monkeypatch.setattr(bench, "ROWS", (row,))
    bench.main(["--quick", "--rounds", "3", "--json", str(tmp_path / "bench.json")])
    record = json.loads((tmp_path / "bench.json").read_text())
    assert len(record["made_up"]["contenders"][0]["seconds"]) == 3
    assert {"cpu", "cores", "load", "torch"} <= set(record["made_up"]["machine"])
    other = bench.Row("another", row.unit, row.contenders, quick=True)
    monkeypatch.setattr(bench, "ROWS", (other,))
    bench.main(["--quick", "--rounds", "1", "--json", str(tmp_path / "bench.json")])
    both = json.loads((tmp_path / "bench.json").read_text())
    assert both["made_up"] == record["made_up"]
    assert {"| `made_up`", "| `another`"} <= {line.partition(",")[0] for line in bench.markdown(both)}
    assert "made_up" in capsys.readouterr().out


@pytest.mark.slow
def test_probes_are_all_that_differs_where_their_cost_is_measured(bench, rows):
    """The row itself, on the embedded digits: looking changes no result."""
    probed, plain = bench.measure(rows.probes_cost("digits"), rounds=1)
    assert len(probed.seconds) == len(plain.seconds) == 1
    assert probed.report["accuracy"] == plain.report["accuracy"] > 0.5
    ours = importlib.import_module("peers.ours")
    values, off = ours.composed(), ours.composed(*ours.PROBES_OFF)
    assert values["probes"]["ends"]
    assert values["probes"]["epochs"]
    assert not off["probes"]["ends"]
    assert not off["probes"]["epochs"]
    assert rows.probes_cost("mnist") in bench.ROWS


def test_every_row_names_peers_that_exist(bench):
    for row in bench.ROWS:
        assert all((BENCH.parent / "peers" / f"{c.module}.py").is_file() for c in row.contenders), row.name
    assert len({row.name for row in bench.ROWS}) == len(bench.ROWS)
