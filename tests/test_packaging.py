"""The wheel, in an empty environment and run from another folder, is the whole product but for the labs' packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(420), pytest.mark.xdist_group("packaging")]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT])
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `llmquiz` command of an environment that holds the wheel and what it asks for, nothing else."""
    env = tmp_path_factory.mktemp("env")
    run([sys.executable, "-m", "venv", "--without-pip", env])
    wheel = next(dist.glob("*.whl"))
    run([sys.executable, "-m", "pip", "--python", env / "bin" / "python", "install", "--quiet", wheel])
    return env / "bin" / "llmquiz"


def run(command: list[object], **kwargs: object) -> str:
    argv = [str(part) for part in command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **kwargs)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return str(done.stdout)


def test_wheel_and_sdist_carry_decks_and_labs(dist: Path) -> None:
    wheel = set(zipfile.ZipFile(next(dist.glob("*.whl"))).namelist())
    for path in [*ROOT.glob("decks/*.md"), *ROOT.glob("labs/*/lab.*")]:
        assert f"llmquiz/_data/{path.relative_to(ROOT).as_posix()}" in wheel
    assert not [name for name in wheel if name.split("/")[0] in {"labs", "tests", "decks"}]
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"decks/kv-cache.en.md", "labs/kvcache/lab.toml", "tests/conftest.py", "README.md", "LICENSE"} <= names


def test_installed_wheel_studies_and_reports(installed: Path, tmp_path: Path, home: Path) -> None:
    elsewhere = {"cwd": tmp_path, "env": {**os.environ, "LLMQUIZ_HOME": str(home)}}
    decks = json.loads(run([installed, "deck", "list", "--json"], **elsewhere))
    assert {"attention", "kv-cache", "lora"} <= {deck["id"] for deck in decks["decks"]}
    run([installed, "study", "--deck", "kv-cache", "--limit", "1", "--plain"], input="\n3\n", **elsewhere)
    assert json.loads(run([installed, "stats", "--json"], **elsewhere))["all_time"]["reviews"] == 1
    run([installed, "export", "anki", "kv-cache", "-o", tmp_path / "out.apkg", "--schedule"], **elsewhere)
    assert zipfile.is_zipfile(tmp_path / "out.apkg")


def test_lab_without_its_packages_names_the_extra(installed: Path, tmp_path: Path, home: Path) -> None:
    env = {**os.environ, "LLMQUIZ_HOME": str(home)}
    listed = json.loads(run([installed, "lab", "--list", "--json"], cwd=tmp_path, env=env))
    assert "kvcache" in {lab["name"] for lab in listed["labs"]}
    done = subprocess.run(
        [installed, "lab", "kvcache"], capture_output=True, text=True, cwd=tmp_path, env=env, check=False
    )
    assert done.returncode == 3
    assert "llmquiz[labs]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
