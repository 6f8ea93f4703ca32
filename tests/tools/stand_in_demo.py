"""The demo with an engine and a service that cost nothing; run as a program by test_demo.py.

    stand_in_demo.py ENGINE SERVICE [options of the demo]

ENGINE and SERVICE say how each of them behaves: "serve", "deaf" (a child of its own ignores SIGTERM),
"die" (at once), "fall" (two seconds after it was ready) or "hang" (never ready).
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tools.cache import log_folder
from tools.demo import main
from tools.local_vllm import VllmServer
from tools.processes import free_port, serving

SERVER = """
import http.server, subprocess, sys, threading, time
port, behaviour = int(sys.argv[1]), sys.argv[2]
if behaviour == "die":
    sys.exit("died of a test")
if behaviour == "hang":
    time.sleep(600)
if behaviour == "deaf":
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", code])
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
server = http.server.HTTPServer(("127.0.0.1", port), Ready)
if behaviour == "fall":
    threading.Timer(2, lambda: (print("fell in a test", flush=True), server.shutdown())).start()
server.serve_forever()
"""
engine_behaviour, service_behaviour, *options = sys.argv[1:]


@contextmanager
def serve_engine(
    model_dir: str, port: int | None, *, interrupt: Callable[[], None]
) -> Iterator[VllmServer]:
    port = port or free_port()
    command = [sys.executable, "-c", SERVER, str(port), engine_behaviour]
    url = f"http://127.0.0.1:{port}"
    log = log_folder() / "engine.log"
    with serving("vLLM", command, url, log, timeout=60, interrupt=interrupt, grace=1) as child:
        yield VllmServer(f"{url}/v1", model_dir, child, child.log_path)


def service_command(_engine: VllmServer, port: int) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port), service_behaviour]


sys.argv[1:] = options
sys.exit(main(serve_engine, service_command))
