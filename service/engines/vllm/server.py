"""vLLM's own server in this process, without a socket.

secondpass calls its engine directly and forwards plain requests to its handlers. asyncio only. Importing this module
imports vLLM, so import it only to serve this engine.
"""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry
from vllm import envs
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
from secondpass.service.engines.common.status_codes import excerpt
from secondpass.service.engines.vllm.asgi import ASGIApp
from secondpass.service.engines.vllm.engine import VllmEngine

_PROXY, _PLUGIN = "a reverse proxy", "the secondpass plugin in vLLM's own server"
_LOG = "--log-level and --access-log before the --"
_UNSUPPORTED_FLAGS = {
    "model": "--model before the --",
    "host": "--host before the --",
    "port": "--port before the --",
    "uds": "--host and --port before the --",
    "api_key": "--api-keys-file before the --",
    "api_server_count": "several processes behind a load balancer",
    "grpc": _PLUGIN,
    "headless": _PLUGIN,
    "middleware": _PLUGIN,
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
"""Flags of vLLM's server without effect here -> the alternative for the operator."""

_NOT_GIVEN = object()
_PLUGIN_NAME = "secondpass"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VllmServer:
    """vLLM in this process: the `engine`, and vLLM's own application `app` on top of it."""

    engine: VllmEngine
    app: ASGIApp


def parse(model: str, flags: Sequence[str]) -> Namespace:
    """Return the arguments of vLLM's server for `model` and `flags`.

    Raises BadSettings for an invalid flag and for a flag without effect in secondpass.
    """
    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm", add_help=False))

    def fail(message: str) -> NoReturn:
        raise BadSettings(
            f"vLLM flags: {message}; see `python -m vllm.entrypoints.openai.api_server --help=all`"
        )

    parser.error = fail
    try:
        unset = Namespace(**dict.fromkeys(_UNSUPPORTED_FLAGS, _NOT_GIVEN))
        given = parser.parse_args([*flags], unset)
        if getattr(given, "model_tag", None) is not None:
            fail(
                f"{given.model_tag!r} is not a flag; set the model with {_UNSUPPORTED_FLAGS['model']}"
            )
        for flag, alternative in _UNSUPPORTED_FLAGS.items():
            if getattr(given, flag) is not _NOT_GIVEN:
                name = f"--{flag.replace('_', '-')}"
                fail(f"{name} has no effect inside secondpass: use {alternative}")
        args: Namespace = parser.parse_args(["--model", model, *flags])
        validate_parsed_serve_args(args)
        _import_parsers(args)
        validate_api_server_args(args)
    except BadSettings:
        raise
    except Exception as error:  # noqa: BLE001 - vLLM's parser raises many kinds of errors
        fail(excerpt(str(error) or type(error).__name__))
    if args.enable_chunked_prefill is None and current_platform.is_cpu():
        # vLLM 0.32 on CPUs: a call with a seed and a chunked prefill crashes the core.
        args.enable_chunked_prefill = False
    return args


@asynccontextmanager
async def vllm_server(
    name: str, model: str, flags: Sequence[str] = ()
) -> AsyncIterator[VllmServer]:
    """Run vLLM with `model` (a folder or a hub name) and vLLM's own `flags` until the block ends.

    The engine core is a child process that imports the main module again, so that module needs a `__main__` guard.
    Loading blocks the event loop. Raises BadSettings with vLLM's message if vLLM does not start.
    """
    _check_environment()
    model = _resolve_model(model)
    args = parse(model, flags)
    cli_env_setup()
    async with AsyncExitStack() as stack:
        try:
            server = await _launch(name, args, stack)
        except BadSettings:
            raise
        except Exception as failure:  # any exception means that the start failed
            why = excerpt(str(failure) or type(failure).__name__)
            raise BadSettings(f"vLLM failed to start with model {model!r}: {why}") from failure
        yield server


async def _launch(name: str, args: Namespace, stack: AsyncExitStack) -> VllmServer:
    client = await stack.enter_async_context(build_async_engine_client(args))
    tasks = await client.get_supported_tasks()
    if "generate" not in tasks:
        raise BadSettings(
            f"model {args.model!r} does not generate text: vLLM supports only {', '.join(tasks)} with it"
        )
    app = build_app(args, tasks, client.model_config)
    warn_of_dev_mode()
    await init_app_state(client, app.state, args, tasks)
    await stack.enter_async_context(app.router.lifespan_context(app))
    renderer = app.state.online_renderer
    engine = VllmEngine(name, client, served_name(args), online=renderer, plain=app)
    stack.push_async_callback(engine.aclose)
    await engine.start()
    return VllmServer(engine, app)


def served_name(args: Namespace) -> str:
    """Return the model's first name in vLLM's API."""
    names: list[str] | str | None = args.served_model_name
    name = names[0] if isinstance(names, list) else names
    return name or str(args.model)


def warn_of_dev_mode() -> None:
    """Warn if vLLM has its routes for development, such as /collective_rpc."""
    if envs.VLLM_SERVER_DEV_MODE:
        logger.warning(
            "VLLM_SERVER_DEV_MODE is set: vLLM has routes that put the engine to sleep, replace its weights and call its "
            "workers. Tenants may not use them, but never set it where others reach vLLM's own port"
        )


def metrics_registry() -> CollectorRegistry:
    """Return the registry with the metrics of all vLLM processes."""
    registry: CollectorRegistry = get_prometheus_registry()
    return registry


def _check_environment() -> None:
    if os.environ.get("VLLM_API_KEY"):
        raise BadSettings(
            "VLLM_API_KEY is set, so vLLM would reject requests from secondpass: unset it, and use api_keys_file"
        )
    if _PLUGIN_NAME in os.environ.get("VLLM_PLUGINS", "").split(","):
        raise BadSettings(
            "VLLM_PLUGINS contains secondpass: remove it, the plugin works only in vLLM's own server"
        )


def _resolve_model(model: str) -> str:
    """Return the model with `~` expanded. Raises BadSettings for a path that is not a folder."""
    if not model.startswith(("/", ".", "~")):
        return model
    path = Path(model).expanduser()
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise BadSettings(f"model: {model} {problem}; set a folder, or OWNER/NAME on a model hub")
    return str(path)


def _import_parsers(args: Any) -> None:
    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
