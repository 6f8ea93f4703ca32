"""The demo with a fake service; test_demo.py runs it as a program.

    stand_in_demo.py BEHAVIOUR [options of the demo]

BEHAVIOUR of the service: "serve", "deaf" (its child process ignores SIGTERM), "die" (at once), "fall" (two seconds
after it was ready) or "hang" (never ready).
"""

import sys

from tools.demo import main

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
behaviour, *options = sys.argv[1:]


def service_command(_model: str, port: int) -> list[str]:
    return [sys.executable, "-c", SERVER, str(port), behaviour]


sys.argv[1:] = options
sys.exit(main(service_command, grace=1))
