"""`advisor doctor`: what is installed, what is missing, what this computer has, and where files go."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import click
import platformdirs

from advisor.catalog import devices
from advisor.catalog.gpus import detect
from advisor.cli import voice
from advisor.show.columns import columns
from advisor.text import N_, inert, language, t
from advisor.units import gib
from recipes.exits import Exit

DISTRIBUTION = "finetune-advisor"
MARKS = {"ok": N_("ok"), "old": N_("too old"), "new": N_("newer than tested"), "missing": N_("missing")}


@dataclass(frozen=True, slots=True)
class Package:
    """A requirement of ours beside what is installed; `extra` is empty for what every use needs."""

    name: str
    wanted: str
    installed: str | None
    extra: str
    state: Literal["ok", "old", "new", "missing"]


@click.command(help=t(N_("Say what is installed, what is missing and where files go.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("Print JSON.")))
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Look around; exit 4 if something that every use needs is not right."""
    packages = tuple(_packages())
    bad = [p for p in packages if not p.extra and p.state in {"old", "missing"}]
    machine, paths = _machine(), _paths()
    trains = all(p.state in {"ok", "new"} for p in packages if p.extra == "train")
    if as_json:
        data = {"packages": [asdict(p) for p in packages], "machine": machine, "paths": paths}
        voice.envelope("doctor", {**data, "can_train": trains, "language": language()})
    else:
        _tell(packages, machine, paths, trains=trains)
    ctx.exit(Exit.ENVIRONMENT if bad else Exit.OK)


def _tell(
    packages: tuple[Package, ...], machine: dict[str, str], paths: dict[str, str], *, trains: bool
) -> None:
    rows = [(p.name, p.installed or "-", p.wanted, p.extra, t(MARKS[p.state])) for p in packages]
    click.echo("\n".join(columns(rows)))
    click.echo()
    click.echo("\n".join(columns(list(machine.items()))))
    click.echo()
    click.echo("\n".join(columns(list(paths.items()))))
    click.echo()
    click.echo(t(N_("language  {code}"), code=language()))
    if trains:
        click.echo(t(N_("training  ready")))
    else:
        click.echo(t(N_("training  not ready: pip install 'finetune-advisor[train]'")))


def _packages() -> Iterator[Package]:
    try:
        listed = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a source tree that was never installed
        listed = []
    for line in listed:
        extra = re.search(r"extra == ['\"](\w+)['\"]", line)
        name = re.match(r"[\w.\-]+", line)
        if name is None or (extra and extra[1] != "train"):
            continue
        wanted = line[name.end() :].split(";")[0].strip()
        yield _package(name[0], wanted, extra[1] if extra else "")


def _package(name: str, wanted: str, extra: str) -> Package:
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Package(name, wanted, None, extra, "missing")
    return Package(name, wanted, installed, extra, fits(installed, wanted))


def fits(installed: str, wanted: str) -> Literal["ok", "old", "new"]:
    """Whether a version stands within bounds such as ">=2.11,<2.14" or "==8.2.*"; only what we use is known here."""
    have = numbers(installed)
    for bound in wanted.split(","):
        sign, limit = re.match(r"\s*(>=|<|==)?(.*)", bound).groups()  # type: ignore[union-attr]  # always matches
        want = numbers(limit)
        if sign == ">=" and have < want:
            return "old"
        if sign == "<" and have >= want:
            return "new"
        if sign == "==" and have[: len(want)] != want:
            return "old" if have < want else "new"
    return "ok"


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.13.0+cpu is (2, 13, 0)."""
    lead = re.match(r"[\d.]*", text.strip())
    return tuple(int(part) for part in (lead[0] if lead else "").split(".") if part)


def _machine() -> dict[str, str]:
    free = shutil.disk_usage(Path.cwd()).free
    return {
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "memory": _memory(),
        "disk free": gib(free),
        "gpu": _gpu(),
    }


def _memory() -> str:
    try:
        return gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return "?"


def _gpu() -> str:
    """The accelerators and their free memory; why one that is here is not used, or that there is none."""
    if found := devices.nvidia():
        return "; ".join(
            t(N_("{name}, {size} free"), name=inert(one.name), size=gib(one.free_bytes)) for one in found
        )
    here = detect()
    reason = t(here.note, gpu=here.name) if here.note else ""
    return ": ".join(part for part in (here.other, reason) if part) or t(N_("none found"))


def _paths() -> dict[str, str]:
    return {
        "config": platformdirs.user_config_dir("advisor"),
        "data": platformdirs.user_data_dir("advisor"),
        "cache": platformdirs.user_cache_dir("advisor"),
        "runs": str(Path("runs").resolve()),
        "models": os.environ.get("HF_HOME") or str(Path("~/.cache/huggingface").expanduser()),
    }
