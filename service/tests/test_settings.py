import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.detector import DEFAULT_MODEL
from service.__main__ import WRONG_SETTINGS, main
from service.app import create_app
from service.settings import CLIENT_KEY, Settings, SettingsError, check_variables, find_key

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


NO_KEYS = ["", " ", " , ", ",,,", "\t"]
NO_KEY_FILES = [
    b"",
    b"\n",
    b"# none yet\n",
    b" \t\r\n\r\n",
    b"\xef\xbb\xbf",
    b"\xef\xbb\xbf# none\r\n#\r\n",
]


@pytest.mark.parametrize("keys", NO_KEYS)
def test_keys_without_a_key_are_refused(keys):
    with pytest.raises(SettingsError, match="no API key in PERSON_SEARCH_API_KEYS"):
        Settings(api_keys=keys).read_keys()


@pytest.mark.parametrize("content", NO_KEY_FILES)
@pytest.mark.parametrize("keys", [None, " , "])
def test_a_file_without_a_key_is_refused(tmp_path, content, keys):
    path = tmp_path / "keys"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=f"no API key in .*{path}"):
        Settings(api_keys_file=path, api_keys=keys).read_keys()
    settings = Settings(api_keys_file=path, api_keys=f"me:admin:{SECRET}")
    assert len(settings.read_keys()) == 1


@pytest.mark.parametrize("keys", [" , ", " "])
def test_the_service_does_not_start_without_a_key_where_keys_were_meant(
    tmp_path, monkeypatch, capsys, keys
):
    monkeypatch.setenv("PERSON_SEARCH_API_KEYS", keys)

    assert main(["--data-dir", str(tmp_path / "data")]) == WRONG_SETTINGS
    assert "no API key in PERSON_SEARCH_API_KEYS" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_key_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(b"\xef\xbb\xbf" + f"me:search:{SECRET}\r\n".encode())

    assert [key.name for key in Settings(api_keys_file=path).read_keys()] == ["me"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"me:search:{SECRET}".encode("utf-16"), "not UTF-8"),
        (b"#" * 2**21, "more than"),
        (f"me:search:{SECRET} # of the lobby".encode(), "no space"),
        (f"me:search:{SECRET}ä".encode(), "ASCII"),
        (f"me:search:{SECRET}\0".encode(), "ASCII"),
    ],
)
def test_a_key_file_that_does_not_say_what_is_meant_is_refused(tmp_path, content, told):
    path = tmp_path / "keys"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=told) as raised:
        Settings(api_keys_file=path).read_keys()
    assert SECRET not in str(raised.value)


def test_the_key_of_clients_is_not_taken_for_one_of_the_service(monkeypatch):
    monkeypatch.setenv(CLIENT_KEY, SECRET)

    with pytest.raises(SettingsError, match="PERSON_SEARCH_API_KEYS"):
        Settings().read_keys()
    assert len(Settings(api_keys=f"me:admin:{SECRET}").read_keys()) == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PERSON_SEARCH_API_KEY", "PERSON_SEARCH_API_KEYS"),
        ("person_search_api_key", "PERSON_SEARCH_API_KEYS"),
        ("PERSON_SEARCH_APIKEYS", "PERSON_SEARCH_API_KEYS"),
        ("PERSON_SEARCH__API_KEYS", "PERSON_SEARCH_API_KEYS"),
        ("PERSONSEARCH_API_KEYS", "PERSON_SEARCH_API_KEYS"),
        ("PERSON-SEARCH_API_KEYS", "PERSON_SEARCH_API_KEYS"),
        ("PERSON_SEACH_API_KEYS", "PERSON_SEARCH_API_KEYS"),
        ("PERSON_SEARCH_API_KEYS ", "PERSON_SEARCH_API_KEYS"),
        ("PERSON_SEARCH_API_KEY_FILE", "PERSON_SEARCH_API_KEYS_FILE"),
        ("PERSON_SEARCH_RETENTION_DAY", "PERSON_SEARCH_RETENTION_DAYS"),
        ("PERSON_SEARCH_DATABASE_URL_FILE", "PERSON_SEARCH_DATABASE_URL"),
        ("PERSON_SEARCH_THREAD", "PERSON_SEARCH_THREADS"),
        ("PERSON_SEARCH_UI_PORT", "PERSON_SEARCH_PORT"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_name_that_was_meant(
    tmp_path, monkeypatch, capsys, name, meant
):
    monkeypatch.setenv(name, f"me:admin:{SECRET}")

    assert main(["--data-dir", str(tmp_path / "data")]) == WRONG_SETTINGS
    said = capsys.readouterr().err
    assert f"{name!r} is no setting; did you mean {meant}?" in said
    assert SECRET not in said


def test_all_misspelt_variables_are_told_at_once():
    with pytest.raises(SettingsError) as raised:
        check_variables(
            ["PERSON_SEARCH_PORT", "PERSON_SEARCH_HOST"],
            {"PERSON_SEARCH_PROT": "1", "PERSON_SEARCH_HOSTS": "::1", "HOME": "/"},
        )

    assert "PERSON_SEARCH_PROT" in str(raised.value)
    assert "PERSON_SEARCH_HOSTS" in str(raised.value)
    assert "HOME" not in str(raised.value)


KUBERNETES = {  # of Services person-search and person-search-ui, IPv4 and IPv6
    "PERSON_SEARCH_SERVICE_HOST": "10.96.12.7",
    "PERSON_SEARCH_SERVICE_PORT": "8000",
    "PERSON_SEARCH_SERVICE_PORT_HTTP": "8000",
    "PERSON_SEARCH_PORT": "tcp://10.96.12.7:8000",
    "PERSON_SEARCH_PORT_8000_TCP": "tcp://10.96.12.7:8000",
    "PERSON_SEARCH_PORT_8000_TCP_PROTO": "tcp",
    "PERSON_SEARCH_PORT_8000_TCP_PORT": "8000",
    "PERSON_SEARCH_PORT_8000_TCP_ADDR": "10.96.12.7",
    "PERSON_SEARCH_UI_SERVICE_HOST": "fd00::7",
    "PERSON_SEARCH_UI_PORT": "tcp://[fd00::7]:80",
    "PERSON_SEARCH_UI_PORT_80_TCP": "tcp://[fd00::7]:80",
}


def test_what_kubernetes_sets_by_itself_is_passed_over(monkeypatch):
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)

    assert Settings().port == 8000
    assert Settings(port=9000).port == 9000


@pytest.mark.parametrize("value", ["http://10.96.12.7:8000", "tcp://", "8000/tcp", "0", "x"])
def test_a_port_that_is_none_is_refused(monkeypatch, value):
    monkeypatch.setenv("PERSON_SEARCH_PORT", value)

    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    "wrong",
    [
        {"root_path": "people"},
        {"root_path": "/a/../b"},
        {"root_path": "https://host/people"},
        {"root_path": '/"><script>'},
        {"trusted_proxies": "10.0.0.0/33"},
        {"trusted_proxies": "proxy.example"},
        {"trusted_proxies": "*,10.0.0.1"},
        {"frame_ancestors": "https://a.example; script-src *"},
        {"frame_ancestors": "*"},
        {"frame_ancestors": "https://a.example\r\nX: y"},
        {"cors_origins": "a.example"},
        {"cors_origins": "null"},
        {"cors_origins": "https://a.example/path"},
        {"cors_origins": "*,https://a.example"},
        {"search_deadline_s": float("inf")},
        {"ingest_deadline_s": float("nan")},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_every_site_may_ask_only_where_there_are_keys():
    with pytest.raises(SettingsError, match="cors_origins"):
        Settings(cors_origins="*").read_keys()
    assert Settings(cors_origins="*", api_keys=f"me:admin:{SECRET}").read_keys()


def test_a_root_path_that_is_also_a_path_of_the_service_is_refused():
    with pytest.raises(SettingsError, match="/gallery is a path of the service"):
        create_app(Settings(root_path="/gallery/people"))
    assert create_app(Settings(root_path="/people/gallery/"))


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


def test_a_tilde_in_a_directory_is_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PERSON_SEARCH_DATA_DIR", "~/gallery")

    settings = Settings(import_dir="~/in", snapshot_dir="~")

    assert settings.data_dir == tmp_path / "gallery"
    assert settings.import_dir == tmp_path / "in"
    assert settings.snapshot_dir == tmp_path
