"""The house rules that no linter knows. A remark made twice in review belongs here.

`.venv/bin/python -m tests.test_tidy` writes docs/lifecycle.md anew from the table.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from cirrus import errors
from cirrus.core import messages
from cirrus.core.lifecycle import MOVES, SEED_STATES, ended
from cirrus.store.queries import named

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "src" / "cirrus"

LINES: Final = {"src": 300, "tests": 1100, "examples": 300, "bench": 350}
"""So many a file may have; it has two jobs when it outgrows that. Split it, or say here why not."""
LONGER: Final = {
    "src/cirrus/core/agent.py": 360,  # one table of cases, read from top to bottom
    "src/cirrus/core/decision.py": 400,  # what may be asked and answered: declarations alone
    "src/cirrus/core/jobs.py": 370,  # everything that ends, or begins again
    "src/cirrus/dispatcher/acting.py": 350,
    "src/cirrus/dispatcher/attempts.py": 350,
    "src/cirrus/dispatcher/service.py": 420,
    "src/cirrus/executors/process.py": 480,  # what an engine does for the others
}
CORE_LINES: Final = 3300
FUNCTION_LINES: Final = {"src": 40, "tests": 45}

BROAD: Final = {
    "src/cirrus/coordinator/service.py": 2,  # the top of the loop, and of one input alone
    "src/cirrus/dispatcher/acting.py": 1,  # the top of every loop
    "src/cirrus/dispatcher/disk.py": 1,  # passed on to whoever asked
}
"""Where a broad `except` may swallow; one that raises again may stand anywhere."""

PURE: Final = {
    "collections",
    "difflib",
    "functools",
    "graphlib",
    "hashlib",
    "itertools",
    "jsonschema_rs",
    "msgspec",
    "re",
    "shlex",
    "typing",
}
IMPURE_CALLS: Final = {"open", "print", "input", "hash", "id", "eval", "exec", "__import__"}


# --- what there is ------------------------------------------------------------------------------


@cache
def files() -> tuple[Path, ...]:
    """Everything that is part of the tree, committed or about to be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    found = (ROOT / name for name in listed.decode().split("\0") if name)
    return tuple(sorted(path for path in found if path.is_file()))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python(*below: str) -> list[Path]:
    return [
        path
        for path in files()
        if path.suffix == ".py" and name(path).startswith(below or ("src/", "tests/"))
    ]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def texts() -> Iterator[tuple[str, str]]:
    """Name and content of every file that people read."""
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content and not path.name.endswith(".lock"):
            yield name(path), content.decode()


def test_there_is_something_to_look_at():
    assert len(python("src/cirrus/core/")) >= 12
    assert len(files()) > 100


# --- sizes --------------------------------------------------------------------------------------


def test_no_file_has_outgrown_its_number():
    found = {
        name(path): len(path.read_text().splitlines())
        for path in python("src/", "tests/", "examples/", "bench/")
    }
    allowed = {file: LONGER.get(file, LINES[file.partition("/")[0]]) for file in found}

    assert {file: lines for file, lines in found.items() if lines > allowed[file]} == {}
    assert LONGER.keys() <= found.keys()


def test_the_core_is_small_enough_to_read_in_an_evening():
    lines = sum(len(path.read_text().splitlines()) for path in python("src/cirrus/core/"))

    assert lines <= CORE_LINES


def test_no_function_is_longer_than_a_page():
    long = [
        f"{name(path)}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in python()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES[name(path).partition("/")[0]]
    ]

    assert long == []


def test_no_module_is_called_after_nothing():
    nothing = re.compile(r"(^|/|_)(utils?|common|helpers?|misc)(\.|_|/)")

    assert [name(path) for path in files() if nothing.search(name(path))] == []


# --- code ---------------------------------------------------------------------------------------


def test_the_core_matches_case_by_case():
    wild = [
        f"{name(path)}:{case.pattern.lineno}"
        for path in python("src/cirrus/core/")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Match)
        for case in node.cases
        if isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
    ]

    assert wild == []


def broad(handler: ast.ExceptHandler) -> bool:
    caught = {"BaseException"} if handler.type is None else {
        node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)
    }  # fmt: skip
    return bool(caught & {"Exception", "BaseException"})


def raises_again(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise)


def test_only_the_top_of_a_loop_swallows_whatever_comes():
    found: dict[str, int] = {}
    for path in python("src/"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and broad(node) and not raises_again(node):
                found[name(path)] = found.get(name(path), 0) + 1

    assert found == BROAD


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)} imports relatively"
            yield node.module or ""


def pure(module: str) -> bool:
    return module.partition(".")[0] in PURE or module.startswith(("cirrus.core.", "cirrus.errors"))


def test_the_core_imports_nothing_that_reads_writes_or_takes_chances():
    impure = [
        f"{name(path)} imports {module}"
        for path in (*python("src/cirrus/core/"), SOURCE / "errors.py")
        for module in imported(path)
        if not pure(module)
    ]

    assert impure == []


def test_the_core_calls_nothing_whose_answer_differs_from_run_to_run():
    calls = [
        f"{name(path)}:{node.lineno} calls {node.func.id}"
        for path in python("src/cirrus/core/")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in IMPURE_CALLS
    ]

    assert calls == []


def test_the_core_goes_through_no_set_in_its_accidental_order():
    loops = (ast.For, ast.comprehension)
    unordered = [
        f"{name(path)}:{node.iter.lineno}"
        for path in python("src/cirrus/core/")
        for node in ast.walk(tree(path))
        if isinstance(node, loops)
        if isinstance(node.iter, ast.Set | ast.SetComp)
        or (isinstance(node.iter, ast.Call) and getattr(node.iter.func, "id", "") == "set")
    ]

    assert unordered == []


# --- SQL ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["write.sql", "read.sql"])
def test_every_query_is_used_and_every_used_query_is_defined(file):
    defined = set(vars(named(file)))
    used = {
        node.attr
        for path in python("src/")
        if f'named("{file}")' in path.read_text() or asks(path, file)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "SQL"
    }

    assert used == defined


def asks(path: Path, file: str) -> bool:
    """Whether a module takes its SQL from the one that reads this file."""
    owner = {"write.sql": "cirrus.store.view", "read.sql": "cirrus.store.reader"}[file]
    return re.search(rf"^from {owner} import .*\bSQL\b", path.read_text(), re.MULTILINE) is not None


def test_sql_stands_in_sql_files_alone():
    sql = re.compile(r"\s*(SELECT .+ FROM|INSERT INTO|UPDATE .+ SET|DELETE FROM|CREATE TABLE)\s")
    allowed = {"src/cirrus/store/connection.py"}  # what opens and migrates
    written = [
        f"{name(path)}:{node.lineno}"
        for path in python("src/")
        if name(path) not in allowed
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if sql.match(node.value)
    ]

    assert written == []


# --- errors -------------------------------------------------------------------------------------


def drawn_errors() -> dict[str, str]:
    """Each error in the docstring's tree, and the one that it stands below."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if drawing := re.match(r"([│├└─ ]*)([A-Z]\w+)(  |$)", line):
            depth = len(drawing[1]) // 4
            above[depth:] = [drawing[2]]
            found[drawing[2]] = above[depth - 1] if depth else ""
    return found


def test_every_error_stands_in_the_tree_where_it_belongs():
    classes = {
        error.__name__: "" if error is errors.CirrusError else error.__bases__[0].__name__
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.CirrusError)
    }

    assert drawn_errors() == classes


def test_the_tree_tells_the_status_that_each_refusal_has():
    told = dict(re.findall(r"([A-Z]\w+) +(\d{3}) ", errors.__doc__ or ""))
    refusals = {
        error.__name__: str(error.status)
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.Refused)
        if error is not errors.Refused
    }

    assert refusals.items() <= told.items()


# --- documents ----------------------------------------------------------------------------------

LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ +(.*)$", page, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def dead(page: Path, link: str) -> bool:
    if link.startswith(("http://", "https://", "mailto:")):
        return False
    target, _, anchor = link.partition("#")
    path = (page.parent / target).resolve() if target else page
    if not path.exists():
        return True
    return bool(anchor) and path.suffix == ".md" and anchor not in anchors(path.read_text())


def test_every_link_in_the_documents_leads_somewhere():
    pages = [path for path in files() if path.suffix == ".md"]
    links = [(page, link) for page in pages for link in LINK.findall(page.read_text())]

    assert len(links) > 5
    assert [f"{name(page)}: {link}" for page, link in links if dead(page, link)] == []


def test_every_message_stands_in_the_protocol():
    page = (ROOT / "docs" / "protocol.md").read_text()
    orders = messages.Order.__args__ + messages.Report.__args__
    tags = {kind.__struct_config__.tag for kind in orders}

    assert {tag for tag in tags if f"| `{tag}` |" not in page} == set()


def test_every_decision_is_numbered_in_order():
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert [page.name[:4] for page in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        if page.stem == "0010-dependencies":  # a table, with a reason in each row
            continue
        for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Revisit when**"):
            assert part in text, f"{page.name} has no {part}"


# --- what no file of ours may name --------------------------------------------------------------

HOSTS: Final = re.compile(r"https?://([A-Za-z0-9.-]+\.[A-Za-z]{2,})")
OUR_HOSTS: Final = re.compile(r"(^|\.)(example|evil|invalid|test)$|^json-schema\.org$")


def test_no_file_names_a_registry_or_any_other_foreign_host():
    """Where packages and images come from is the machine's configuration."""
    foreign = [
        f"{file}: {host}"
        for file, text in texts()
        for host in HOSTS.findall(text)
        if not OUR_HOSTS.search(host)
    ]

    assert foreign == []


def test_the_locks_name_no_host_either():
    locks = [path for path in files() if path.name.endswith(".lock")]

    assert locks
    assert [name(path) for path in locks if re.search(r"://|--index-url", path.read_text())] == []


def test_no_file_names_the_place_where_it_was_written():
    here = str(ROOT)

    assert [file for file, text in texts() if here in text] == []


# --- docs/lifecycle.md --------------------------------------------------------------------------

LIFECYCLE: Final = ROOT / "docs" / "lifecycle.md"


PAGE: Final = """\
# The lifecycle of a job

A job is the work of a firing. These are all the states it can be in and all the moves it can make;
the store refuses any other. This page is made from the table in
[`core/lifecycle.py`](../src/cirrus/core/lifecycle.py) by `.venv/bin/python -m tests.test_tidy`.

```mermaid
stateDiagram-v2
    [*] --> triggered: its rule fired
{arrows}
```

| from | to | when |
|---|---|---|
{rows}

What has ended never changes again. A paused rule's jobs wait in `triggered`.

## In the seed's words

What the seed's rule-state queue shows when a job comes into a state:

| state | shown |
|---|---|
{words}

An auto-trigger shows `triggered` and `dispatch` and nothing else, as in the seed.
"""


def lifecycle_page() -> str:
    """The whole page, from the table in core/lifecycle.py."""
    moves = [(before, *move) for before, table in MOVES.items() for move in table.items()]
    arrows = [f"    {before} --> {after}: {when}" for before, after, when in moves]
    arrows += [f"    {state} --> [*]" for state in MOVES if ended(state)]
    rows = [f"| `{before}` | `{after}` | {when} |" for before, after, when in moves]
    shown = {state: SEED_STATES[state] for state in MOVES}
    words = [(f"`{state}`", *said) for state, said in shown.items()]
    words += [("`triggered` again", *SEED_STATES["retried"])]
    told = [f"| {state} | {' '.join(f'`{word}`' for word in said)} |" for state, *said in words]
    return PAGE.format(arrows="\n".join(arrows), rows="\n".join(rows), words="\n".join(told))


def test_the_page_on_the_lifecycle_says_what_the_table_says():
    assert LIFECYCLE.read_text() == lifecycle_page()


if __name__ == "__main__":
    LIFECYCLE.write_text(lifecycle_page())
