"""Launches of vLLM that cannot succeed, and what their errors say."""

from __future__ import annotations

import pytest

from secondpass.service.common.errors import BadSettings
from tests.engines.in_process import model_folder, vllm_at_hand

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]


@pytest.mark.parametrize(
    ("model", "flags", "said"),
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
        (None, "Other/Model", "'Other/Model' is no flag; the model is --model before the --"),
        (None, "--ssl-ca-certs x", "--ssl-ca-certs has no effect inside secondpass: use a proxy"),
        (None, "--chat-template /nope.jinja", "nope.jinja"),
        ("~/no-such-folder", "", "is not there; give a folder"),
        (__file__, "", "is a file and no folder"),
    ],
)
async def test_a_launch_that_cannot_be_says_what_to_change(
    model: str | None, flags: str, said: str
) -> None:
    folder = model_folder()
    with vllm_at_hand(folder):
        from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415

        with pytest.raises(BadSettings, match=said):
            async with vllm_server("vllm", model or folder, flags.split()):
                pass


@pytest.mark.parametrize(
    ("variable", "value"), [("VLLM_API_KEY", "k"), ("VLLM_PLUGINS", "secondpass")]
)
async def test_variables_that_would_work_against_us_are_refused(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    from secondpass.service.engines.vllm.server import vllm_server  # noqa: PLC0415

    with pytest.raises(BadSettings, match=variable):
        async with vllm_server("vllm", model_folder()):
            pass
