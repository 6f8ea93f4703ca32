"""Starts vLLM's own server in this process, without a socket: its engine is ours to use, its handlers answer what we forward.

Importing this module imports vLLM: whoever serves another engine must not. asyncio only.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import validate_api_server_args
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.platforms import current_platform
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.metrics.prometheus import get_prometheus_registry

from secondpass.service.common.errors import BadSettings
from secondpass.service.engines.common.status_codes import short
from secondpass.service.engines.vllm.asgi import ASGIApp
from secondpass.service.engines.vllm.engine import VllmEngine

_PROXY, _PLUG_IN = "a proxy in front", "the plug-in, in vLLM's own server"
_LOG = "--log-level and --access-log before the --"
_OURS = {
    "model": "--model before the --",
    "host": "--host before the --",
    "port": "--port before the --",
    "uds": "--host and --port before the --",
    "api_key": "--api-keys-file before the --",
    "api_server_count": "more processes behind a balancer",
    "grpc": _PLUG_IN,
    "headless": _PLUG_IN,
    "middleware": _PLUG_IN,
    "allowed_origins": _PROXY,
    "allowed_methods": _PROXY,
    "allowed_headers": _PROXY,
    "allow_credentials": _PROXY,
    "root_path": _PROXY,
    "ssl_keyfile": _PROXY,
    "ssl_certfile": _PROXY,
    "ssl_ca_certs": _PROXY,
    "ssl_cert_reqs": _PROXY,
    "ssl_ciphers": _PROXY,
    "enable_ssl_refresh": _PROXY,
    "h11_max_incomplete_event_size": _PROXY,
    "h11_max_header_count": _PROXY,
    "uvicorn_log_level": _LOG,
    "disable_uvicorn_access_log": _LOG,
    "disable_access_log_for_endpoints": _LOG,
}
"""Flags of vLLM's server that nothing would obey here, and what to use in their place."""

_UNSAID = object()
_PLUGIN = "secondpass"


@dataclass(frozen=True, slots=True)
class VllmServer:
    """What runs in this process: the `engine`, and `app`, vLLM's own application over it."""

    engine: VllmEngine
    app: ASGIApp


def parse(model: str, flags: Sequence[str]) -> Namespace:
    """The arguments of vLLM's server. Raises BadSettings for a flag that it does not know, or that cannot be obeyed here."""
    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm", add_help=False))

    def fail(message: str) -> NoReturn:
        raise BadSettings(
            f"vLLM's flags: {message}; `python -m vllm.entrypoints.openai.api_server --help=all` lists them"
        )

    parser.error = fail
    try:
        given = parser.parse_args([*flags], Namespace(**dict.fromkeys(_OURS, _UNSAID)))
        if getattr(given, "model_tag", None) is not None:
            fail(f"{given.model_tag!r} is no flag; the model is {_OURS['model']}")
        for flag, instead in _OURS.items():
            if getattr(given, flag) is not _UNSAID:
                name = f"--{flag.replace('_', '-')}"
                fail(f"{name} has no effect inside secondpass: use {instead}")
        args: Namespace = parser.parse_args(["--model", model, *flags])
        validate_parsed_serve_args(args)
        _import_parsers(args)
        validate_api_server_args(args)
    except BadSettings:
        raise
    except Exception as error:  # noqa: BLE001 - its parser raises errors of all kinds
        fail(short(str(error) or type(error).__name__))
    if args.enable_chunked_prefill is None and current_platform.is_cpu():
        # vLLM 0.32: a call with a seed kills the core on CPUs if its prompt is read in pieces.
        args.enable_chunked_prefill = False
    return args


@asynccontextmanager
async def vllm_server(
    name: str, model: str, flags: Sequence[str] = ()
) -> AsyncIterator[VllmServer]:
    """Start vLLM with `model` (a folder or a hub name) and its own `flags`, until the block is left.

    The engine core is a child process that imports the main module anew, which therefore needs its `__main__` guard.
    Loading blocks the event loop. Raises BadSettings, in vLLM's words, when it does not start.
    """
    _check_environment()
    model = _folder(model)
    args = parse(model, flags)
    cli_env_setup()
    async with AsyncExitStack() as stack:
        try:
            server = await _started(name, args, stack)
        except BadSettings:
            raise
        except Exception as failure:  # whatever it is, the start has failed
            why = f"vLLM does not start with {model!r}: {short(str(failure) or type(failure).__name__)}"
            raise BadSettings(why) from failure
        yield server


async def _started(name: str, args: Namespace, stack: AsyncExitStack) -> VllmServer:
    client = await stack.enter_async_context(build_async_engine_client(args))
    tasks = await client.get_supported_tasks()
    if "generate" not in tasks:
        raise BadSettings(f"{args.model!r} writes no text: vLLM offers {', '.join(tasks)} with it")
    app = build_app(args, tasks, client.model_config)
    await init_app_state(client, app.state, args, tasks)
    await stack.enter_async_context(app.router.lifespan_context(app))
    renderer = app.state.online_renderer
    engine = VllmEngine(name, client, served_name(args), online=renderer, plain=app)
    stack.push_async_callback(engine.aclose)
    await engine.start()
    return VllmServer(engine, app)


def served_name(args: Namespace) -> str:
    """The model's first name in vLLM's own API."""
    names: list[str] | str | None = args.served_model_name
    name = names[0] if isinstance(names, list) else names
    return name or str(args.model)


def metrics_registry() -> CollectorRegistry:
    """Where vLLM keeps its metrics, those of all its processes together."""
    registry: CollectorRegistry = get_prometheus_registry()
    return registry


def _check_environment() -> None:
    if os.environ.get("VLLM_API_KEY"):
        raise BadSettings("VLLM_API_KEY would lock us out of vLLM: unset it, and use api_keys_file")
    if _PLUGIN in os.environ.get("VLLM_PLUGINS", "").split(","):
        raise BadSettings(
            "VLLM_PLUGINS names secondpass, which is for vLLM's own server: this is secondpass itself"
        )


def _folder(model: str) -> str:
    """The model, with `~` read as a shell does. Raises BadSettings for a path without a folder."""
    if not model.startswith(("/", ".", "~")):
        return model
    path = Path(model).expanduser()
    if not path.is_dir():
        what = "a file and no folder" if path.exists() else "not there"
        raise BadSettings(f"model: {model} is {what}; give a folder, or a hub's OWNER/NAME")
    return str(path)


def _import_parsers(args: Any) -> None:
    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
