"""Measure Cirrus beside the limits of the machine: one JSON line for each figure.

Usage: script/bench [--quick] [NAME ...]; exit code 0 only if every goal is met.
"""

import asyncio
import http.client
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import limits

HERE = Path(__file__).parent
CIRRUS = [sys.executable, "-m", "cirrus"]
AUTO = {"cmd": "__auto_trigger__"}
ENDED = ("succeeded", "failed", "cancelled")


class Cirrus:
    """A coordinator of its own, with its dispatcher, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, monitor_port = free_ports()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [
                *(*CIRRUS, "up", "--data-dir", str(folder), "--port", str(self.port)),
                *("--monitor-port", str(monitor_port), "--log-level", "error"),
            ],
            stdout=subprocess.DEVNULL,
        )
        self.wait(lambda: self.call("GET", "/healthz") is not None)
        self.start_seconds = time.perf_counter() - began
        self.wait(lambda: any(one["connected"] for one in self.dispatchers()))

    def dispatchers(self) -> list[dict]:
        return self.call("GET", "/v1/dispatchers")["items"]

    def call(self, method: str, path: str, body: object = None) -> dict | None:
        text = None if body is None else json.dumps(body)
        try:
            self.connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return None
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content) if content[:1] in b"{[" else {}

    def wait(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Asks ever more seldom, at most a hundredth of the time late: asking costs the asked."""
        began = time.perf_counter()
        while not condition():
            waited = time.perf_counter() - began
            if waited > seconds or self.process.poll() is not None:
                sys.exit("what was awaited did not happen")
            time.sleep(max(0.005, waited / 100))

    def define(self, rules: dict, event_sets: dict | None = None) -> None:
        names = sorted(rules)
        for start in range(0, len(names), 1000):
            part = {name: rules[name] for name in names[start : start + 1000]}
            body = {"rules": part, "event_sets": event_sets or {} if start == 0 else {}}
            self.call("POST", "/v1/definitions", body)

    def trigger(self, event: str, key: str) -> None:
        self.call("POST", f"/r/event/{event}", {"action": "trigger", "key": key})

    def seconds_until(self, event: str, key: str, first: str) -> float:
        """From triggering `first` until `event` has occurred under the same key."""
        began = time.perf_counter()
        self.trigger(first, key)
        self.wait(
            lambda: self.call("GET", f"/v1/occurrences?event={event}&key={key}&limit=1")["items"],
            seconds=300,
        )
        return time.perf_counter() - began

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def free_ports() -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@contextmanager
def cirrus() -> Iterator[Cirrus]:
    with tempfile.TemporaryDirectory(prefix="cirrus-bench-", dir=os.environ.get("BENCH_DIR")) as f:
        one = Cirrus(Path(f))
        try:
            yield one
        finally:
            one.end()


def most(name: str, value: float, unit: str, *, goal: float, limit: float = 0) -> bool:
    """A figure of which more is better. `limit`: what the machine itself can do."""
    return say(name, value, unit, goal, limit, ok=value >= goal)


def least(name: str, value: float, unit: str, *, goal: float, limit: float = 0) -> bool:
    """A figure of which less is better."""
    return say(name, value, unit, goal, limit, ok=value <= goal)


def say(  # noqa: PLR0913  (the line's own fields)
    name: str, value: float, unit: str, goal: float, limit: float, *, ok: bool
) -> bool:
    line = {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "limit": round(limit, 4) or None,
        "ratio": round(value / limit, 4) if limit else None,
        "goal": round(goal, 4),
        "ok": ok,
    }
    print(json.dumps(line), flush=True)
    return ok


def load(one: Cirrus, seconds: float, tag: str, events: int = 100) -> dict:
    command = [sys.executable, str(HERE / "load.py"), str(one.port), "32", str(seconds)]
    ran = subprocess.run([*command, str(events), tag], capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(ran.stderr)
    return json.loads(ran.stdout)


def single_rules(count: int) -> dict:
    return {
        f"bench:rule:{n}": {
            f"bench:event:{n}": {"activity": AUTO, "triggering": f"bench:done:{n}", "attempts": 1}
        }
        for n in range(count)
    }


# --- the figures --------------------------------------------------------------------------------


def posts(*, quick: bool) -> bool:
    """Durable posts, alone; then with 10,000 rules, and with 100,000 occurrences behind them."""
    seconds = 2.0 if quick else 5.0
    with cirrus() as one:
        ok = least("start", one.start_seconds, "s", goal=2.0)
        one.define(single_rules(100))
        load(one, 1.0, "warm")
        syncs = limits.syncs_per_second(one.folder)
        first = load(one, seconds, "first")
        ok &= most("posts_32", first["per_second"], "1/s", goal=4000, limit=syncs)
        ok &= least("posts_32_p99", first["p99"] * 1000, "ms", goal=50)
        for turn in itertools.count():
            if one.call("GET", "/v1/status")["last_seq"] >= 300_000:  # three for each post
                break
            load(one, 5.0, f"more{turn}")
        many = load(one, seconds, "history")["per_second"]
        ok &= most("posts_100k_occurrences", many, "1/s", goal=0.8 * first["per_second"])
    with cirrus() as one:
        one.define(single_rules(10_000))
        load(one, 1.0, "warm", 10_000)
        registered = load(one, seconds, "rules", 10_000)["per_second"]
        ok &= most("posts_10k_rules", registered, "1/s", goal=0.8 * first["per_second"])
    return ok


def hops(*, quick: bool) -> bool:
    """An auto-trigger chain: one post, all hops in its transaction."""
    length = 5000
    with cirrus() as one:
        one.define(
            {
                f"hop:rule:{n:05}": {
                    f"hop:event:{n}": {"activity": AUTO, "triggering": f"hop:event:{n + 1}"}
                }
                for n in range(length)
            }
        )
        times = []
        for turn in range(2 if quick else 5):
            began = time.perf_counter()
            one.trigger("hop:event:0", f"k{turn}")
            times.append(time.perf_counter() - began)
    return most("chain_hops", length / statistics.median(times), "1/s", goal=5000)


def processes(*, quick: bool) -> bool:
    """`true` as a process: 100 one after the other; 1,000 at once and their join."""
    true = {"task_type": "process", "cmd": ["/bin/true"]}
    with cirrus() as one:
        chain = {
            f"chain:rule:{n}": {
                f"chain:event:{n}": {"activity": true, "triggering": f"chain:event:{n + 1}"}
            }
            for n in range(100)
        }
        fan = {
            f"fan:rule:{n}": {"fan:go": {"activity": true, "triggering": f"fan:done:{n}"}}
            for n in range(1000)
        }
        join = {"fan:rule:join": {"fan:all": {"activity": AUTO, "triggering": "fan:joined"}}}
        sets = {"fan:all": [f"fan:done:{n}" for n in range(1000)]}
        one.define(chain | fan | join, sets)
        one.seconds_until("chain:event:100", "warm", "chain:event:0")
        turns = range(1 if quick else 3)
        chained, bare_chain, fanned, bare_fan = [], [], [], []
        for turn in turns:
            bare_chain.append(limits.chain_of_processes(100))
            chained.append(one.seconds_until("chain:event:100", f"c{turn}", "chain:event:0"))
            bare_fan.append(limits.fan_of_processes(1000, 4))
            fanned.append(one.seconds_until("fan:joined", f"f{turn}", "fan:go"))
        middle = statistics.median
        ok = least("process_chain_100", middle(chained), "s", goal=1, limit=middle(bare_chain))
        return ok & least("process_fan_1000", middle(fanned), "s", goal=3, limit=middle(bare_fan))


def containers(*, quick: bool) -> bool:
    """Container jobs against a bare loop of the engine's API, at the same concurrency."""
    count = 24 if quick else 60
    activity = {"task_type": "docker", "image": "busybox", "cmd": ["true"], "network": "none"}
    with cirrus() as one:
        slots = one.dispatchers()[0]["slots"]
        rules = {
            f"box:rule:{n}": {"box:go": {"activity": activity, "triggering": f"box:done:{n}"}}
            for n in range(count)
        }
        join = {"box:rule:join": {"box:all": {"activity": AUTO, "triggering": "box:joined"}}}
        one.define(rules | join, {"box:all": [f"box:done:{n}" for n in range(count)]})
        ratios = []
        for turn in range(2 if quick else 3):
            before = asyncio.run(limits.containers(count, slots))
            took = one.seconds_until("box:joined", f"b{turn}", "box:go")
            after = asyncio.run(limits.containers(count, slots))
            ratios.append((before + after) / 2 / took)
    return most("containers_of_bare_api", statistics.median(ratios), "ratio", goal=0.95)


def idle(*, quick: bool) -> bool:
    """CPU and memory with nothing to do."""
    with cirrus() as one:
        time.sleep(2 if quick else 5)  # what is measured is time itself
        pids = one.pids()
        before, began = cpu_seconds(pids), time.perf_counter()
        time.sleep(5 if quick else 20)
        share = (cpu_seconds(pids) - before) / (time.perf_counter() - began)
        megabytes = [resident(pid) for pid in pids]
        ok = least("idle_cpu", share * 100, "%", goal=1.0)
        ok &= least("idle_coordinator_memory", megabytes[0], "MB", goal=60)
        ok &= least("idle_all_memory", sum(megabytes), "MB", goal=110)
        return ok & least("processes", len(pids), "count", goal=2)


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Megabytes (10⁶) of memory that the process has in use."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6


def cli(*, quick: bool) -> bool:
    """Seconds until `cirrus --help` and `cirrus version` have answered."""
    del quick
    ok = True
    for command in ("--help", "version"):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([*CIRRUS, command], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        name = f"cli_{command.strip('-')}"
        ok &= least(name, statistics.median(times), "s", goal=0.3)
    return ok


FIGURES = {one.__name__: one for one in (posts, hops, processes, containers, idle, cli)}


def main() -> None:
    names = [word for word in sys.argv[1:] if word != "--quick"] or list(FIGURES)
    unknown = set(names) - FIGURES.keys()
    if unknown:
        sys.exit(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    quick = "--quick" in sys.argv[1:]
    met = [FIGURES[name](quick=quick) for name in names]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
