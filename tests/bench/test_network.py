"""What a step is made of, and real links; no test asks how fast this machine is."""

import csv
import json
import subprocess

import pytest
import torch

from gradwire.bench import link as links
from gradwire.bench.link import LinkRefused, burst, link
from gradwire.bench.network import NetworkSettings, measure, run_network, traffic
from gradwire.bench.shaped import shaped
from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.wire import SERVER, Message, Send, client


def test_a_measured_step():
    plain, sparse, low = measure(("none", "topk:ratio=0.01", "powersgd:rank=1"), model="convnet", batch=2, repeats=1)
    assert max(sparse.bytes, low.bytes) < plain.bytes / 10
    assert (plain.messages, sparse.messages, low.messages) == (2, 1, 4)
    assert min(plain.compute, plain.coding, sparse.coding) > 0


def test_sums_go_around_the_ring_twice_in_parts_and_all_else_once_whole():
    tensors = {"x": torch.zeros(100)}
    size = Message(client(0), SERVER, 0, "p", tensors).size
    assert traffic([Send("p", tensors, mean=True)], 4) == (2 * 3 / 4 * size, 6)
    assert traffic([Send("p", tensors)], 4) == (3 * size, 3)
    assert traffic([Send("p", tensors), Send("p", tensors, mean=True)], 2) == (2 * size, 3)


def test_secure_sums_go_by_a_server_whose_link_all_messages_pass():
    plain, dense, sparse, left = measure(
        ("none", "sga", "ssga:compression=200", "sga:threshold=2"), model="convnet", batch=2, repeats=1
    )
    assert dense.bytes == pytest.approx(2 * plain.bytes, rel=0.02)  # both workers' there and back, at once
    assert sparse.bytes < dense.bytes / 50
    assert (dense.messages, sparse.messages, left.messages) == (4, 4, 14)


@pytest.fixture
def refused(monkeypatch):
    """A machine on which root may not make namespaces."""

    def run(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "mount --make-shared /run/netns failed: no\nmore")

    monkeypatch.setattr(links.subprocess, "run", run)


def test_what_is_refused_is_named(refused):
    with pytest.raises(LinkRefused, match=r"^no shaped link: `ip netns add gradwire-\d+-0` was refused: mount --make-"):
        link().__enter__()


def test_missing_tools_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(links.subprocess, "run", _missing)
    with pytest.raises(LinkRefused, match=r"ip is not installed \(package iproute2\)"):
        link().__enter__()


def _missing(command, **options):
    if options.get("check") is False and "delete" in command:
        return subprocess.CompletedProcess(command, 1)
    raise FileNotFoundError(command[0])


def small(**changes):
    return NetworkSettings(("topk:ratio=0.01",), model="convnet", batch=2, steps=1, **changes)


def test_without_shaped_links_the_model_is_all_there_is(refused, tmp_path, capsys):
    options = ["--model", "convnet", "--batch-size", "2", "--scheme", "topk:ratio=0.01", "--out", str(tmp_path / "run")]
    main(["bench", "network", *options])
    shown = capsys.readouterr().out
    assert "No real links were measured: no shaped link: `ip netns add gradwire-" in shown
    assert "topk:ratio=0.01" in shown
    with (tmp_path / "run" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["scheme"], row["source"], float(row["rate"])) for row in rows] == [
        (scheme, "modelled", rate) for scheme in ("none", "topk:ratio=0.01") for rate in (1e8, 1e9, 1e10)
    ]
    assert "No real links" in (tmp_path / "run" / "report.html").read_text()


def test_real_links_may_be_left_alone(tmp_path):
    folder = run_network(small(real=False), tmp_path / "run")
    assert json.loads((folder / "config.json").read_text())["notes"] == ["No real links were measured: --no-real."]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"workers": 1}, "workers is 1; it must be at least 2"), ({"latency": -1.0}, "latency is -1.0; it must not be")],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(GradwireError, match=message):
        small(**changes)


@pytest.fixture
def allowed():
    """Skips where this machine makes no shaped links."""
    try:
        with link() as made:
            made.limit(1e9)
    except LinkRefused as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_real_link_lets_no_more_through_than_it_should(allowed):
    """No step can be over before its bytes have passed, but for those that the shaper lets through at once."""
    rate = 2e7
    plain, sparse = shaped(NetworkSettings(("none", "topk:ratio=0.01"), model="resnet20", batch=2, steps=1), (rate,))
    assert plain.bytes > 4 * 269_722
    assert sparse.bytes < plain.bytes / 10
    assert plain.seconds > 8 * (4 * 269_722 - burst(rate)) / rate
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert "gradwire-" not in namespaces


@pytest.mark.slow
def test_a_worker_that_fails_on_a_link_is_named(allowed):
    with pytest.raises(GradwireError, match=r"a worker on the shaped link failed: .*unknown scheme 'gzip'"):
        shaped(NetworkSettings(("gzip",), model="convnet", batch=2), (1e9,))
