"""Registry of the rules, and accessors that they share."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from tests.k8s.manifests import Object, containers, of_kind, pod_spec, settings_values

Rule = Callable[[Sequence[Object]], Iterator[str]]

RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule by its name. A rule yields one message for each violation."""
    RULES[function.__name__] = function
    return function


def workloads(objects: Sequence[Object]) -> list[Object]:
    """Objects that create pods."""
    return of_kind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def all_containers(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Each container of all workloads, with a name for messages."""
    return chain.from_iterable(map(containers, workloads(objects)))


def long_running_containers(workload: Object) -> Iterator[tuple[str, Object]]:
    """Containers that run as long as their pod: all except init containers that exit."""
    exiting = [
        one
        for one in pod_spec(workload).get("initContainers", [])
        if one.get("restartPolicy") != "Always"
    ]
    for name, container in containers(workload):
        if not any(container is one for one in exiting):
            yield name, container


def runs_vllm(container: Object, objects: Sequence[Object]) -> bool:
    """Return whether a container runs vLLM, as a server or inside secondpass."""
    own = container["name"] == "secondpass" and settings_values(objects).get("engine") == "vllm"
    return own or container.get("command", [])[:1] == ["vllm"]
