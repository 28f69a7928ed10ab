"""Which labs there are: those shipped with llmquiz and those of the user, found by the same code.

A broken manifest is a finding; it never hides the other labs. A user's lab of the same name as a shipped one is a
finding too: a card must mean the same experiment everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from llmquiz import locations
from llmquiz.core.errors import ManifestError, MissingExtraError, UsageError
from llmquiz.lab.manifest import MANIFEST, Manifest, load

SCRIPT = "lab.py"
INSTALL = "pip install 'llmquiz[labs]'"
INSTALL_CPU = "uv tool install --torch-backend=cpu 'llmquiz[labs]'"

PENDING_VARIABLE = "LLMQUIZ_LABS_PENDING"


def pending_setup() -> Path | None:
    """The mark of an installation of the labs' packages under way, as `make study` starts one; its log lies beside."""
    mark = os.environ.get(PENDING_VARIABLE)
    return Path(mark) if mark and Path(mark).exists() else None


@dataclass(frozen=True, slots=True)
class Lab:
    """An experiment: the folder with its `lab.toml` and `lab.py`, and what the manifest says."""

    name: str
    folder: Path
    manifest: Manifest
    builtin: bool = True

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that the lab needs and that are not installed. Nothing is imported to find out."""
        if pending_setup():  # half a package can be found, but not imported
            return self.manifest.needs
        return tuple(module for module in self.manifest.needs if find_spec(module) is None)

    def require(self) -> None:
        """Do nothing if the lab can run here.

        Raises:
            MissingExtraError: if packages are missing; the message says how to install them.
        """
        if not (missing := self.missing):
            return
        if pending := pending_setup():
            log = pending.with_suffix(".log")
            raise MissingExtraError(
                f"lab {self.name}: its packages are still being installed (progress: {log}); try again in a minute"
            )
        names = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
        raise MissingExtraError(f"lab {self.name} needs {names}; install with: {INSTALL} (CPU only: {INSTALL_CPU})")


class Catalog:
    """All labs by name.

    Args:
        folders: (folder, whether its labs are shipped) in order of precedence; default: shipped labs, then the user's.
    """

    def __init__(self, folders: Sequence[tuple[Path, bool]] | None = None) -> None:
        places = ((locations.shipped("labs"), True), (locations.user_labs(), False)) if folders is None else folders
        self._labs: dict[str, Lab] = {}
        self._broken: dict[str, ManifestError] = {}
        for folder, builtin in places:
            for path in sorted(folder.glob(f"*/{MANIFEST}")):
                self._add(path, builtin)

    def labs(self) -> list[Lab]:
        """Every usable lab, shipped ones first."""
        return list(self._labs.values())

    @property
    def findings(self) -> list[ManifestError]:
        """What is wrong with the labs that cannot be used."""
        return list(self._broken.values())

    def manifests(self) -> Mapping[str, Manifest]:
        """Manifests by the lab's name, as the deck linter wants them."""
        return {name: lab.manifest for name, lab in self._labs.items()}

    def find(self, name: str) -> Lab:
        """The lab called `name`.

        Raises:
            UsageError: if there is none; the message names the nearest.
            ManifestError: if there is one with a broken manifest.
        """
        if name in self._labs:
            return self._labs[name]
        if name in self._broken:
            raise self._broken[name]
        near = get_close_matches(name, self._labs, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"labs are {', '.join(self._labs) or 'none'}"
        raise UsageError(f"no lab '{name[:40]}'; {hint}")

    def warm_modules(self) -> tuple[str, ...]:
        """Modules that shipped labs want imported ahead. A user's lab runs nothing before it is asked for."""
        wanted = {name: None for lab in self.labs() if lab.builtin and not lab.missing for name in lab.manifest.warm}
        return tuple(wanted)

    def _add(self, path: Path, builtin: bool) -> None:
        try:
            lab = Lab(path.parent.name, path.parent, load(path), builtin)
            if not (path.parent / SCRIPT).is_file():
                raise ManifestError(f"{path.parent / SCRIPT}: no such file; write its run(params, report)")
            if lab.name in self._labs:
                raise ManifestError(f"{path}: lab '{lab.name}' is shipped with llmquiz; rename the folder")
            self._labs[lab.name] = lab
        except ManifestError as error:
            self._broken[path.parent.name] = error
