"""The registry of the rules, and what most of them read."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from tests.k8s.manifests import Object, containers, of_kind, pod_spec, settings_values

Rule = Callable[[Sequence[Object]], Iterator[str]]

RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule by its name. It returns what is wrong, as one line for each problem."""
    RULES[function.__name__] = function
    return function


def workloads(objects: Sequence[Object]) -> list[Object]:
    """Everything that runs pods."""
    return of_kind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def all_containers(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """Each container of every workload, with a name for messages."""
    return chain.from_iterable(map(containers, workloads(objects)))


def long_running_containers(workload: Object) -> Iterator[tuple[str, Object]]:
    """Each container that runs as long as its pod: all but the initContainers that end."""
    ending = [
        one
        for one in pod_spec(workload).get("initContainers", [])
        if one.get("restartPolicy") != "Always"
    ]
    for name, container in containers(workload):
        if not any(container is one for one in ending):
            yield name, container


def runs_vllm(container: Object, objects: Sequence[Object]) -> bool:
    """Whether a container loads a model: vLLM's own server, or ours with the engine in process."""
    own = container["name"] == "secondpass" and settings_values(objects).get("engine") == "vllm"
    return own or container.get("command", [])[:1] == ["vllm"]
