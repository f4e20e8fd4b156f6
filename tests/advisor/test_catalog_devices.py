"""What this computer has: NVML where it answers, sysfs, the kernel; a stand-in for the library plays each driver."""

import json
import sys
from types import SimpleNamespace

import pytest

from advisor.catalog import devices, gpus
from advisor.catalog.gpus import detect
from advisor.units import GIB


class NVMLError(Exception):
    """What the library raises for everything."""


class Driver:
    """A pynvml that knows some cards: a name, free bytes (None: no memory of its own) and its MIG slices."""

    NVMLError = NVMLError

    def __init__(self, *cards, installed=True):
        self.cards, self.installed, self.shut = cards, installed, False

    def nvmlInit(self):
        if not self.installed:
            raise NVMLError("driver not loaded")

    def nvmlShutdown(self):
        self.shut = True

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        if index >= len(self.cards):
            raise NVMLError("invalid argument")
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return next(card for card in self.cards if card.get("uuid") == uuid)

    def nvmlDeviceGetName(self, card):
        return card["name"]

    def nvmlDeviceGetMemoryInfo(self, card):
        if card["free"] is None:
            raise NVMLError("not supported")
        return SimpleNamespace(free=card["free"])

    def nvmlDeviceGetMigMode(self, card):
        if "slices" not in card:
            raise NVMLError("not supported")
        return (1, 1)

    def nvmlDeviceGetMaxMigDeviceCount(self, card):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, index):
        if index >= len(card["slices"]):
            raise NVMLError("not found")
        return card["slices"][index]

    def nvmlDeviceIsMigDeviceHandle(self, card):
        return card.get("slice", False)


@pytest.fixture
def driver(monkeypatch):
    def install(*cards, **rest):
        found = Driver(*cards, **rest)
        monkeypatch.setitem(sys.modules, "pynvml", found)
        return found

    monkeypatch.delenv(devices.VISIBLE, raising=False)
    return install


def card(name="NVIDIA GeForce RTX 4090", free=22, **rest):
    return {"name": name, "free": None if free is None else free * GIB, **rest}


def test_a_card_is_found_with_its_row_and_what_is_free_now(driver):
    used = driver(card())
    found = detect()

    assert (found.kind, found.usable_bytes, found.count) == ("cuda", 22 * GIB, 1)
    assert found.gpu.name == "GeForce RTX 4090"
    assert used.shut


def test_of_several_cards_the_fullest_decides_and_other_kinds_are_not_counted(driver):
    driver(card(free=22), card(free=20), card("NVIDIA A40", free=40))
    found = detect()

    assert (found.usable_bytes, found.count) == (20 * GIB, 2)


def test_names_may_come_as_bytes(driver):
    driver(card(b"NVIDIA H100 80GB HBM3", free=79))

    assert detect().name == "NVIDIA H100 80GB HBM3"


def test_a_slice_of_a_card_has_no_rates_and_says_so(driver):
    part = card("NVIDIA H100 80GB HBM3 MIG 3g.40gb", free=39, slice=True)
    driver(card("NVIDIA H100 80GB HBM3", free=79, slices=[part, part]))
    found = detect()

    assert (found.usable_bytes, found.gpu, found.count) == (39 * GIB, None, 1)
    assert "MIG" in found.note


def test_unified_memory_is_the_computers(driver, monkeypatch):
    driver(card("NVIDIA GB10", free=None))
    monkeypatch.setattr(devices, "available_memory", lambda: 100 * GIB)
    found = detect()

    assert found.usable_bytes == 100 * GIB
    assert "memory is the computer's" in found.note


@pytest.mark.parametrize(
    ("visible", "name"),
    [("1", "NVIDIA A40"), ("GPU-b", "NVIDIA A40"), ("1,0", "NVIDIA A40"), ("0", "NVIDIA GeForce RTX 4090")],
)
def test_only_visible_devices_count_in_their_order(driver, monkeypatch, visible, name):
    driver(card(uuid="GPU-a"), card("NVIDIA A40", uuid="GPU-b"))
    monkeypatch.setenv(devices.VISIBLE, visible)

    assert detect().name == name


@pytest.mark.parametrize("visible", ["", "-1", "7", "none"])
def test_without_a_visible_device_the_cpu_is_assumed(driver, monkeypatch, visible):
    driver(card())
    monkeypatch.setenv(devices.VISIBLE, visible)

    assert detect().kind == "cpu"


@pytest.mark.parametrize("cards", [(), (card(),)])
def test_no_driver_and_no_card_mean_the_cpu(driver, cards):
    driver(*cards, installed=not cards)

    assert detect().kind == "cpu"


def test_a_driver_that_nobody_can_ask_is_told_with_what_to_install(driver, monkeypatch, tmp_path):
    driver(installed=False)
    (tmp_path / "version").touch()
    monkeypatch.setattr(devices, "NVIDIA_DRIVER", tmp_path / "version")

    assert "finetune-advisor[gpu]" in detect().note


def test_an_amd_card_is_told_with_its_memory_and_not_used(driver, monkeypatch, tmp_path):
    driver()
    for number, text in enumerate((str(24 * GIB), "not a number")):
        device = tmp_path / f"card{number}" / "device"
        device.mkdir(parents=True)
        (device / "mem_info_vram_total").write_text(text)
    sizes = devices.amd(tmp_path)
    monkeypatch.setattr(gpus.devices, "amd", lambda: sizes)
    found = detect()

    assert sizes == (24 * GIB,)
    assert (found.kind, found.other) == ("cpu", "AMD GPU, 24.0 GiB")
    assert "--vram" in found.note


def test_a_mac_says_that_its_gpu_is_not_used(driver, monkeypatch):
    driver()
    monkeypatch.setattr(devices, "amd", tuple)
    monkeypatch.setattr(devices, "is_apple_silicon", lambda: True)

    assert detect().other == "Apple GPU"


def told(capsys):
    from advisor.cli import main

    with pytest.raises(SystemExit):
        main(["--lang", "en", "doctor", "--json"])
    return json.loads(capsys.readouterr().out)["data"]["machine"]["gpu"]


def test_the_doctor_names_each_card_with_what_is_free(driver, capsys):
    driver(card(free=22), card("NVIDIA A40", free=40))

    assert told(capsys) == "NVIDIA GeForce RTX 4090, 22.0 GiB free; NVIDIA A40, 40.0 GiB free"


def test_the_doctor_says_what_a_driver_that_nobody_can_ask_lacks(monkeypatch, capsys):
    monkeypatch.setattr(devices, "nvidia", tuple)
    monkeypatch.setattr(devices, "has_nvidia_driver", lambda: True)

    assert "install finetune-advisor[gpu]" in told(capsys)
