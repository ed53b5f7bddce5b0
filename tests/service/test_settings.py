"""Settings: four sources, one order, and no word that is not understood."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchstep.errors import SettingsError
from watchstep_monitor.settings import load_settings


def test_command_line_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("port: 1\nhost: 127.0.0.2\nstall: {timeout_s: 7}\n")

    loaded = load_settings(
        file, environ={"WATCHSTEP_PORT": "2", "WATCHSTEP_HOST": "127.0.0.3"}, overrides={"port": 3}
    )

    settings = loaded.settings
    assert (settings.port, settings.host, settings.stall.timeout_s) == (3, "127.0.0.3", 7.0)
    origins = {key: came for key, _, came in loaded.shown()}
    assert origins["port"] == "command line"
    assert origins["host"] == "environment"
    assert origins["stall.timeout_s"] == "file"
    assert origins["alerts.group_wait_s"] == "default"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot: 1", "did you mean port"),
        ("stall: {timeout: 1}", "did you mean stall.timeout_s"),
        ("receivers: {ops: {kind: slack, urll: x}}", "did you mean receivers.ops.url"),
        ("port: 70000", "port"),
        ("stall: {timeout_s: .nan}", "stall.timeout_s"),
        ("stall: {timeout_s: -1}", "stall.timeout_s"),
        ("port: 1\nport: 2", ":2:"),
        ("- a", "keys and values"),
        ("notify: {allow_private_cidrs: [elsewhere]}", "notify.allow_private_cidrs"),
        ("receivers: {ops: {kind: carrier-pigeon, url: x}}", "receivers.ops.kind"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(text)

    with pytest.raises(SettingsError) as refused:
        load_settings(file, environ={})

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("WATCHSTEP_STALL_TIMEOUT_S", "did you mean WATCHSTEP_STALL__TIMEOUT_S?"),
        ("WATCHSTEP_DATABASE", "did you mean WATCHSTEP_DATABASE_URL?"),
        ("WATCHSTEP_TOKEN_FIL", "did you mean WATCHSTEP_TOKEN_FILE?"),
        ("WATCHSTEP_COFFEE", "WATCHSTEP_COFFEE is no setting"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest(name: str, says: str) -> None:
    (warning,) = load_settings(environ={name: "1"}).warnings

    assert warning.endswith(says)


def test_what_the_trainer_and_kubernetes_set_is_passed_over() -> None:
    environ = {
        "WATCHSTEP_RUN": "a",
        "WATCHSTEP_TOKEN_FILE": "/run/secrets/token",
        "WATCHSTEP_MONITOR_SERVICE_HOST": "10.0.0.1",
        "WATCHSTEP_MONITOR_PORT_8420_TCP": "tcp://10.0.0.1:8420",
        "WATCHSTEP_DATABASE_URL": "postgresql+psycopg://h/d",
        "WATCHSTEP_STALL__TIMEOUT_S": "60",
    }

    assert load_settings(environ=environ).warnings == ()


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(tmp_path / "none.yaml", environ={})


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("https://hooks.example/T0/very-secret\n")
    environ = {
        "WATCHSTEP_RECEIVERS__OPS__KIND": "slack",
        "WATCHSTEP_RECEIVERS__OPS__URL_FILE": str(secret),
    }

    loaded = load_settings(environ=environ)

    url = loaded.settings.receivers["ops"].url.get_secret_value()
    assert url == "https://hooks.example/T0/very-secret"
    assert "very-secret" not in repr(loaded) + str(list(loaded.shown()))


def test_the_trainers_variables_are_not_the_services(tmp_path: Path) -> None:
    trainer = {"WATCHSTEP_RUN": "a", "WATCHSTEP_MODE": "offline", "WATCHSTEP_TOKEN": "wst_x"}

    assert load_settings(environ=trainer).settings.port == 8420


def test_every_setting_has_a_reason() -> None:
    from pydantic import BaseModel

    from watchstep_monitor.settings import Settings

    def without(model: type[BaseModel]) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():
            if isinstance(field.default, BaseModel):
                missing += without(type(field.default))
            elif not field.description:
                missing.append(name)
        return missing

    assert without(Settings) == []
