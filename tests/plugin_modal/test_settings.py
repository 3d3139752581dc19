from __future__ import annotations

import pytest

from openrt_core.errors import SettingError
from openrt_core.settings import TABLE, declared, load
from openrt_modal.settings import Settings

API = {"MODAL_API_TOKEN_ID": "ak-api", "MODAL_API_TOKEN_SECRET": "as-api"}
OWN = {"MODAL_TOKEN_ID": "ak-own", "MODAL_TOKEN_SECRET": "as-own"}


def settings(environment, folder):
    return load({**environment, "HOME": str(folder)}, folder, "modal").for_runtime(
        "modal", Settings
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (API, ("ak-api", "as-api")),
        (OWN, ("ak-own", "as-own")),
        ({**API, **OWN}, ("ak-api", "as-api")),
        ({}, None),
        ({"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}, None),
    ],
)
def test_the_documents_names_come_first(environment, expected, tmp_path):
    assert settings(environment, tmp_path).credentials() == expected


@pytest.mark.parametrize("missing", [*API, *OWN])
def test_one_half_names_the_other(missing, tmp_path):
    pair = API if missing in API else OWN
    environment = {k: v for k, v in pair.items() if k != missing}
    with pytest.raises(SettingError) as caught:
        settings(environment, tmp_path).credentials()
    assert f"{missing} is not" in str(caught.value)
    for value in environment.values():
        assert value not in str(caught.value) + caught.value.hint


def test_half_of_the_first_pair_is_an_error_beside_a_whole_second(tmp_path):
    with pytest.raises(SettingError, match="MODAL_API_TOKEN_SECRET is not"):
        settings({"MODAL_API_TOKEN_ID": "ak-api", **OWN}, tmp_path).credentials()


def test_what_is_declared_is_what_the_table_says(tmp_path):
    for variable in declared(Settings).values():
        assert variable == TABLE[variable.name]
    assert {v.name for v in declared(Settings).values()} == {*API, *OWN}
    assert "ak-api" not in repr(settings(API, tmp_path))
    assert "as-api" not in repr(settings(API, tmp_path))
