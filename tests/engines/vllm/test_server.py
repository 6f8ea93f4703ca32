"""Errors of vLLM launches with invalid settings."""

from __future__ import annotations

import pytest

from secondpass.service.common.errors import BadSettings
from tests.engines.in_process import model_folder, patched_vllm_environment

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]


@pytest.mark.parametrize(
    ("model", "flags", "message"),
    [
        ("/no/such/folder", "", "/no/such/folder"),
        (None, "--max-model-len 1000000", r"max_model_len \(1000000\) is greater"),
        (None, "--no-such-flag 1", "--no-such-flag"),
        (None, "--max-model-len many", "max-model-len"),
        (None, "--port 9000", "--port has no effect inside secondpass: use --port before the --"),
        (None, "--api-key k", "--api-keys-file"),
        (None, "--enable-auto-tool-choice", "requires --tool-call-parser"),
        (None, "--enable-auto-tool-choice --tool-call-parser none", "invalid tool call parser"),
        (None, "--reasoning-parser none", "none"),
        (None, "--port 8000", "--port has no effect"),
        (
            None,
            "Other/Model",
            "'Other/Model' is not a flag; set the model with --model before the --",
        ),
        (
            None,
            "--ssl-ca-certs x",
            "--ssl-ca-certs has no effect inside secondpass: use a reverse proxy",
        ),
        (None, "--chat-template /nope.jinja", "nope.jinja"),
        ("~/no-such-folder", "", "does not exist; set a folder"),
        (__file__, "", "is a file; set a folder"),
    ],
)
async def test_a_launch_with_invalid_settings_raises_bad_settings_with_the_setting(
    model: str | None, flags: str, message: str
) -> None:
    folder = model_folder()
    with patched_vllm_environment(folder):
        from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415

        with pytest.raises(BadSettings, match=message):
            async with vllm_server("vllm", model or folder, flags.split()):
                pass


@pytest.mark.parametrize(
    ("variable", "value"), [("VLLM_API_KEY", "k"), ("VLLM_PLUGINS", "secondpass")]
)
async def test_conflicting_environment_variables_are_rejected(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415

    with pytest.raises(BadSettings, match=variable):
        async with vllm_server("vllm", model_folder()):
            pass
