import os
import subprocess
import uuid

from tests.leftovers import MARK, leftovers, marked_processes


def test_a_process_is_found_until_it_has_ended_with_the_test_that_started_it() -> None:
    mark = uuid.uuid4().hex
    command = ["/bin/sh", "-c", "sleep 600 & echo; wait"]
    with subprocess.Popen(
        command, env={MARK: mark, "PYTEST_CURRENT_TEST": "a test"}, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        found = leftovers(mark, grace=0.1)
        assert shell.pid in found
        assert all(started.endswith("(a test)") for started in found.values())
        shell.kill()
        shell.wait()
        (orphan,) = marked_processes(mark)
        subprocess.run(["kill", "-9", str(orphan)], check=True)
    assert leftovers(mark) == {}


def test_this_session_marks_what_it_starts() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        found = marked_processes(os.environ[MARK])
        process.kill()
    assert "test_this_session_marks" in found[process.pid]
