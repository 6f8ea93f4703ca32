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
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.platforms import current_platform
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.metrics.prometheus import get_prometheus_registry

from secondpass.service.engines.asgi import ASGIApp
from secondpass.service.engines.refusals import short
from secondpass.service.engines.vllm import FOREIGN, VllmEngine
from secondpass.service.settings_sources import BadSettings

_OURS = {
    "host": "--host before the --",
    "port": "--port before the --",
    "api_key": "--api-keys-file before the --",
    "model": "--model before the --",
    "uds": "--host and --port before the --",
    "ssl_keyfile": "a proxy in front",
    "ssl_certfile": "a proxy in front",
    "root_path": "a proxy in front",
    "middleware": "the plug-in, in vLLM's own server",
    "api_server_count": "more processes behind a balancer",
    "headless": "the plug-in, in vLLM's own server",
}
"""Flags of vLLM's server that nothing would obey here, and what to use in their place."""

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
        raise BadSettings(f"vLLM's flags: {message}; `vllm serve --help=all` lists them")

    parser.error = fail
    try:
        given = parser.parse_args([*flags])
        for flag, instead in _OURS.items():
            if getattr(given, flag, None) != parser.get_default(flag):
                name = f"--{flag.replace('_', '-')}"
                fail(f"{name} has no effect inside secondpass: use {instead}")
        args: Namespace = parser.parse_args(["--model", model, *flags])
        validate_parsed_serve_args(args)
    except (ValueError, TypeError, KeyError) as error:
        fail(short(str(error)))
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
    _check_folder(model)
    args = parse(model, flags)
    cli_env_setup()
    _import_parsers(args)
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(build_async_engine_client(args))
        except (*FOREIGN, TypeError, OSError, RuntimeError) as failure:
            why = f"vLLM does not start with {model!r}: {short(str(failure))}"
            raise BadSettings(why) from failure
        tasks = await client.get_supported_tasks()
        if "generate" not in tasks:
            raise BadSettings(f"{model!r} writes no text: vLLM offers {', '.join(tasks)} with it")
        app = build_app(args, tasks, client.model_config)
        await init_app_state(client, app.state, args, tasks)
        await stack.enter_async_context(app.router.lifespan_context(app))
        renderer = app.state.online_renderer
        engine = VllmEngine(name, client, served_name(args), online=renderer, plain=app)
        stack.push_async_callback(engine.aclose)
        await engine.start()
        yield VllmServer(engine, app)


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


def _check_folder(model: str) -> None:
    if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
        raise BadSettings(
            f"model: no folder {model!r}; give one that exists, or a hub's OWNER/NAME"
        )


def _import_parsers(args: Any) -> None:
    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
