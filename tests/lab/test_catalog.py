"""Labs are found by folder; a broken one is a finding and hides no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmquiz import locations
from llmquiz.core.errors import ManifestError, MissingExtraError, UsageError
from llmquiz.lab.catalog import Catalog

WriteLab = Callable[..., Path]
TITLE = 'title = { en = "A" }\n'


def test_a_broken_lab_is_a_finding_and_the_others_stay(write_lab: WriteLab) -> None:
    folder = write_lab("good", TITLE).parent
    write_lab("bad", "nonsense")
    write_lab("scriptless", TITLE, script=None)

    catalog = Catalog([(folder, False)])

    assert [lab.name for lab in catalog.labs()] == ["good"]
    assert len(catalog.findings) == 2
    with pytest.raises(ManifestError, match="bad"):
        catalog.find("bad")
    with pytest.raises(ManifestError, match=r"scriptless.lab\.py: no such file"):
        catalog.find("scriptless")


def test_a_users_lab_cannot_replace_a_shipped_one(write_lab: WriteLab, tmp_path: Path) -> None:
    shipped = write_lab("same", TITLE).parent
    users = tmp_path / "users"
    (users / "same").mkdir(parents=True)
    (users / "same" / "lab.toml").write_text('title = { en = "B" }')
    (users / "same" / "lab.py").write_text("")

    catalog = Catalog([(shipped, True), (users, False)])

    assert catalog.find("same").folder == shipped / "same"
    assert "rename the folder" in str(catalog.findings[0])


def test_the_default_folders_are_the_shipped_and_the_users(home: Path) -> None:
    mine = locations.user_labs() / "mine"
    mine.mkdir(parents=True)
    (mine / "lab.toml").write_text(TITLE)
    (mine / "lab.py").write_text("")

    catalog = Catalog()

    assert not catalog.find("mine").builtin
    assert "mine" in catalog.manifests()
    assert all(lab.builtin for lab in catalog.labs() if lab.name != "mine")


@pytest.mark.parametrize(("typed", "hint"), [("quikc", "did you mean 'quick'"), ("zzz", "labs are broken, crashing")])
def test_an_unknown_lab_gets_a_hint(catalog: Catalog, typed: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        catalog.find(typed)


def test_missing_packages_are_named_with_what_to_do(write_lab: WriteLab) -> None:
    folder = write_lab("mine", TITLE + 'needs = ["json", "a_package_that_is_not", "nor_this_one"]').parent

    lab = Catalog([(folder, False)]).find("mine")

    assert lab.missing == ("a_package_that_is_not", "nor_this_one")
    with pytest.raises(
        MissingExtraError, match=r"lab mine needs a_package_that_is_not and nor_this_one; install"
    ) as error:
        lab.require()
    assert "llmquiz[labs]" in str(error.value)
    assert error.value.exit_code == 3


def test_only_shipped_labs_that_can_run_warm_the_server(write_lab: WriteLab) -> None:
    folder = write_lab("mine", TITLE + 'needs = ["json"]\nwarm = ["json.decoder"]').parent
    assert Catalog([(folder, True)]).warm_modules() == ("json.decoder",)
    assert Catalog([(folder, False)]).warm_modules() == ()


def test_packages_on_their_way_are_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    lab = Catalog().find("kvcache")
    mark = tmp_path / "labs.pending"
    monkeypatch.setenv("LLMQUIZ_LABS_PENDING", str(mark))
    mark.touch()

    with pytest.raises(MissingExtraError, match=r"still being installed.*labs\.log"):
        lab.require()

    mark.unlink()
    lab.require()
