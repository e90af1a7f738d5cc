import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.detector import DEFAULT_MODEL
from service.settings import Settings, SettingsError, find_key

SECRET = "0123456789abcdef-secret"


def test_defaults_listen_on_this_machine_only():
    settings = Settings()

    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.read_keys() == ()
    assert settings.image_limits.max_bytes == 20 * 2**20


def test_every_setting_is_read_from_its_variable(monkeypatch):
    monkeypatch.setenv("PERSON_SEARCH_PORT", "9000")
    monkeypatch.setenv("PERSON_SEARCH_SEARCH_DEADLINE_S", "2.5")
    monkeypatch.setenv("PERSON_SEARCH_API_KEYS", f"me:search+ingest:{SECRET}")
    settings = Settings()

    assert (settings.port, settings.search_deadline_s) == (9000, 2.5)
    (key,) = settings.read_keys()
    assert (key.name, key.scopes) == ("me", {"search", "ingest"})
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "search.example"])
def test_other_hosts_need_a_key(host):
    with pytest.raises(SettingsError, match="without an API key"):
        Settings(host=host).read_keys()

    assert len(Settings(host=host, api_keys=f"me:admin:{SECRET}").read_keys()) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_none(host):
    assert Settings(host=host).read_keys() == ()


@pytest.mark.parametrize(
    "keys",
    [
        "me",
        f"me:{SECRET}",
        f"me:root:{SECRET}",
        f"me::{SECRET}",
        f"m e:admin:{SECRET}",
        "me:admin:short",
        f"me:admin:{SECRET},me:search:{SECRET}2",
        f"me:admin:{SECRET},you:search:{SECRET}",
    ],
)
def test_a_malformed_key_is_refused_without_repeating_it(keys):
    with pytest.raises(ValidationError) as raised:
        Settings(api_keys=keys)

    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)


def test_secrets_are_not_shown_nor_kept(tmp_path):
    settings = Settings(api_keys=f"me:admin:{SECRET}")
    (key,) = settings.read_keys()

    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(key)):
        assert SECRET not in text
    assert key.digest == hashlib.sha256(SECRET.encode()).digest()


def test_keys_come_from_a_file_too(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# who: what: secret\n\nme:search:{SECRET}\nyou:admin:{SECRET}2\n")
    keys = Settings(api_keys_file=path).read_keys()

    assert [key.name for key in keys] == ["me", "you"]
    with pytest.raises(SettingsError, match="cannot read"):
        Settings(api_keys_file=tmp_path / "none").read_keys()


def test_a_key_is_found_by_its_secret_and_allows_its_scopes():
    keys = Settings(api_keys=f"me:search:{SECRET},you:admin:{SECRET}2").read_keys()

    assert find_key(keys, SECRET).name == "me"
    assert find_key(keys, SECRET + "x") is None
    assert find_key(keys, "") is None
    assert [scope for scope in ("search", "ingest") if keys[0].allows(scope)] == ["search"]
    assert keys[1].allows("ingest")


@pytest.mark.parametrize("wrong", [{"port": 0}, {"prot": 1}, {"image_max_bytes": 2**40}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_a_model_that_ships_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert Settings(model="nae-lite").model == DEFAULT_MODEL
    (tmp_path / "nae-lite").mkdir()
    assert Settings(model="nae-lite").model == Path("nae-lite")
    assert Settings(model="somewhere/nae-lite").model == Path("somewhere/nae-lite")


def test_retention_is_read_by_camera_and_nonsense_is_told():
    assert Settings().retention == {}
    assert Settings(retention_days="gate=30,*=365").retention == {"gate": 30, "*": 365}
    with pytest.raises(ValidationError, match="whole days from 1 to 36500 for 'gate'"):
        Settings(retention_days="gate=soon")
