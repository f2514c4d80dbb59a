import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from gradwire.metrics.energy import Meter


def package(folder, name, used, wraps=10_000_000):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{used}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{wraps - 1}\n")


def test_all_packages_are_counted_and_no_part_of_one_twice(tmp_path):
    package(tmp_path, "intel-rapl:0", 1_000)
    package(tmp_path, "intel-rapl:1", 5_000)
    package(tmp_path, "intel-rapl:0:0", 700)
    meter = Meter("cpu", tmp_path)
    assert meter.kwh() == 0
    package(tmp_path, "intel-rapl:0", 3_601_000)
    package(tmp_path, "intel-rapl:0:0", 9_999)
    assert meter.kwh() == pytest.approx(1e-6)
    package(tmp_path, "intel-rapl:1", 3_605_000)
    assert meter.kwh() == pytest.approx(2e-6)


def test_a_counter_that_wraps_around_goes_on(tmp_path):
    package(tmp_path, "intel-rapl:0", 9_000_000)
    meter = Meter("cpu", tmp_path)
    package(tmp_path, "intel-rapl:0", 2_600_000)
    assert meter.kwh() == pytest.approx(1e-6)


def test_where_the_machine_does_not_tell_nothing_is_said(tmp_path):
    assert Meter("cpu", tmp_path).kwh() is None
    (tmp_path / "intel-rapl:0").mkdir()
    assert Meter("cpu", tmp_path).kwh() is None
    assert Meter("cuda:99").kwh() is None


@pytest.fixture
def card(monkeypatch):
    """The card with the UUID "b", and a library that knows its counter, in millijoules."""
    driver = SimpleNamespace(millijoules={"GPU-a": 5, "GPU-b": 7_200_000})
    library = ModuleType("pynvml")
    library.nvmlInit = lambda: None
    library.nvmlDeviceGetHandleByUUID = lambda uuid: uuid.decode()
    library.nvmlDeviceGetTotalEnergyConsumption = lambda handle: driver.millijoules[handle]
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="ab"[index]))
    return driver


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_card_is_found_by_its_uuid_whatever_order_the_library_counts_in(card, device):
    meter = Meter(device)
    card.millijoules["GPU-a"] += 999
    assert meter.kwh() == 0
    card.millijoules["GPU-b"] += 3_600_000
    assert meter.kwh() == pytest.approx(1e-3)


def test_a_card_without_a_counter_says_nothing(card):
    del card.millijoules["GPU-b"]
    assert Meter("cuda").kwh() is None
