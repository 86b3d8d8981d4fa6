"""The documentation is true: links and paths resolve, and every command is run here, or listed in
:data:`NOT_RUN` with the reason."""

import errno
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app.backtest.replay import run as backtest
from app.config.settings import Settings
from app.market_data.sources.loader import open_feed
from app.shared_memory_utils.price_book import SharedPriceBook
from app.strategy.base import Strategy
from tests.support.children import segment_name
from tests.support.compose_stack import ComposeStack
from tests.support.docs import markdown
from tests.support.docs.commands import ContainerCommands, HostCommands
from tests.support.docs.markdown import Block
from tests.support.paths import ROOT

README = ROOT / "README.md"
CHANGELOG = ROOT / ".github/CHANGELOG.md"
if not README.exists():
    pytest.skip("the image has no documentation", allow_module_level=True)

PAGES = markdown.pages()
OPERATING = ROOT / "images/cluster/operating.md"
"""Its commands are run on a cluster, all of them, by tests/app/bus/test_operating.py."""
BLOCKS = [block for page in PAGES if page != OPERATING for block in markdown.blocks(page)]

NOT_RUN = {
    "make setup": "changes the environment that runs the tests",
    "make test": "runs this very test",
    "make test-fast": "part of make test",
    "make test-slow": "takes longer than all others together",
    "curl -s http://127.0.0.1:8080/metrics": "tests/app/dashboard/observability does the same",
    "docker compose --profile observability up -d": "needs a registry for two images",
    "make strategy-watch STRATEGY=data/strategies/breakout.py:Breakout": "may set up .venv; "
    "tests/app/backtest/watch runs what it runs",
    "make demo": "make up with two settings; tests/app/runtime/chaos/test_stack.py checks them",
    ".venv/bin/python -m app proof": "ends with Ctrl-C; tests/app/backtest/proof runs it",
    ".venv/bin/python -m app data check data/first_steps/kurse.csv": "its exit code is 1; "
    "tests/end_to_end/host/test_newcomer.py runs it",
    "DATA_PATH=wss://stream.binance.com:9443/ws LIVE_SYMBOLS=BTCUSDT,ETHUSDT "
    ".venv/bin/python -m app run": "needs an exchange; tests/app/market_data/live has its own",
    "DATA_PATH=wss://stream.binance.com:9443/ws LIVE_SYMBOLS=BTCUSDT docker compose "
    "-f docker-compose.yml -f images/live.yml up -d --wait": "needs an exchange",
    "LIVE_SYMBOLS=BTCUSDT,ETHUSDT .venv/bin/python -m app data record data/out/trades.parquet "
    "wss://stream.binance.com:9443/ws": "needs an exchange",
    ".venv/bin/python -m app data record data/out/run.parquet 127.0.0.1:9001 --seconds 60": (
        "a minute; tests/app/market_data/inspect/test_record.py does the same"
    ),
    "docker compose cp gateway:/srv/live ./recordings": "needs a recording",
    "make lint": ".ci/run runs it before the tests",
    "make test-plain": ".ci/run runs it after the tests",
    ".ci/run": "runs make test",
    ".venv/bin/python -m jupyter execute data/notebooks/backtest.ipynb": "host/test_notebook.py",
    "make pictures": "changes the pictures of the README; its folder's tests look at them",
    "make bench": "nearly half an hour",
    "make bench PART=backtest": "minutes of measuring",
    "make bench PART=backtest-large": "minutes of measuring",
    "make bench PART=orders": "minutes of measuring",
    "make bench-quick": "a minute of measuring",
    ".venv/bin/python -m tests.bench --only wire": "minutes of measuring",
    ".venv/bin/python -m tests.bench.bus": "minutes of measuring",
    ".venv/bin/python -m tests.bench.bus.stall": "minutes of measuring",
    ".venv/bin/python -m tests.bench.bench_orders": "minutes of measuring",
    ".venv/bin/python -m tests.bench.bench_plain": "a minute of measuring",
    ".venv/bin/python -m tests.bench.large_files FILE": "minutes; needs a large file",
    "make chaos RUNS=5 SEED=1": "minutes; tests/chaos/test_containers.py has one run",
    "make chaos RUNS=5 EXAMPLES=1": "minutes; tests/chaos/test_containers.py has one run",
    "make chaos-host RUNS=5 SEED=1": "minutes; tests/chaos/test_host.py has one run",
    "WRITE_ATTACKS=1 .venv/bin/python -m pytest tests/attacks": "minutes of measuring",
    "make pin": "changes .env; tests/end_to_end/hardening/test_supply_chain.py runs it elsewhere",
    "make sbom": "tests/end_to_end/hardening/test_supply_chain.py runs it",
    "make audit": "needs advisories; tests/end_to_end/hardening/test_supply_chain.py has its own",
    ".venv/bin/python -m app sweep --scheduler tcp://HOST:8786 --param short=2:11 "
    "--param long=20:210:10": "tests/app/backtest/sweep/cluster has a cluster",
    ".venv/bin/python -m dask scheduler --host 127.0.0.1 --no-dashboard": "a fixed port; "
    "tests/app/backtest/sweep/cluster starts it on a free one",
    "PYTHONPATH=. .venv/bin/python -m dask worker tcp://127.0.0.1:8786 --nthreads 1 --nworkers 2 "
    "--memory-limit 0 --no-dashboard": "needs that scheduler; the same tests start workers",
    ".venv/bin/python -m app sweep --scheduler tls://HOST:8786 --tls-ca-file ca.pem --tls-cert "
    "me.pem --tls-key me.key --param short=2:11": "tests/app/backtest/sweep/cluster does it",
    'make sweep-cluster SWEEP="--param short=5:20:5 --param long=20,50,100"': "builds images; "
    "tests/end_to_end/containers/test_sweep_cluster.py runs its script",
    "docker compose --project-directory . -f images/dask/docker-compose.yml down": "ends that; "
    "the same test does",
    "helm install --repo https://helm.dask.org --create-namespace -n dask-operator "
    "--generate-name dask-kubernetes-operator": "needs a Kubernetes",
    "kubectl apply -f images/kubernetes/dask/cluster.yaml": "needs a Kubernetes; the file is "
    "checked by tests/app/backtest/sweep/cluster/test_kubernetes.py",
    "kubectl apply -f images/kubernetes/dask/sweep.yaml": "the same",
    "kubectl scale --replicas=20 daskworkergroup/sweep-default": "needs a Kubernetes",
    ".venv/bin/python -m pdb -m app.strategy": "a debugger waits for input",
    ".venv/bin/python -m app.portfolio": "needs a broker; tests/app/portfolio/on_bus runs it",
    ".venv/bin/python -m app portfolio verify a=data/out/a/orders.sqlite3 "
    "b=data/out/b/orders.sqlite3": "needs shards; tests/app/portfolio/on_bus runs it",
    ".venv/bin/python -m tests.bench.plan.measure": "minutes of measuring",
    ".venv/bin/python -m tests.bench.plan.simulate": "writes files; tests/bench/plan computes them",
    ".venv/bin/kubectl kustomize images/kubernetes/overlays/example": (
        "tests/end_to_end/hardening/kubernetes does the same"
    ),
    **dict.fromkeys(
        (f".venv/bin/python -m app.bus {what}" for what in ("setup a b", "shard", "status")),
        "needs a broker; tests/app/bus/outbox/test_process.py runs it",
    ),
    ".venv/bin/python -m app.bus read a": "needs a broker; tests/app/bus/test_cluster.py runs it",
    **dict.fromkeys(
        (
            "make up-cluster",
            "make down-cluster",
            "images/cluster/cluster.sh ps",
            "images/cluster/cluster.sh bus run --rm -T setup python3 -m app.bus read a",
            "images/cluster/cluster.sh shard a exec -T shard python3 -m app.bus status",
            "docker kill trading-bus-broker-1-1",
            "docker kill trading-bus-sequencer-1 trading-a-gateway-1",
            "images/cluster/cluster.sh up",
            "images/cluster/cluster.sh shard a run --rm --no-deps -T check compare",
            'SHARDS="a b c" make up-cluster',
            "images/cluster/cluster.sh bus run --rm -T setup python3 -m app.bus move KO --to c",
            "images/cluster/cluster.sh bus up -d --wait broker-1",
        ),
        "two stacks at once; tests/app/bus/test_cluster.py does the same under names of its own",
    ),
    "make test-cluster": "runs tests that make test-slow runs, too",
}
"""Command -> why no test runs it."""

GENERATED = re.compile(
    r"performance_report\.md|report\.(json|html)|(orders|fills|positions|sweep)\.csv|\w+\.parquet"
    r"|data/out(/.*)?"
)
"""Paths that exist only after a run."""
FILE_SUFFIXES = {".py", ".pyx", ".pxi", ".h", ".c", ".sh", ".md", ".yml", ".toml", ".csv", ".lock"}
SYSTEM_MESSAGES = {os.strerror(errno.ENOSPC), os.strerror(errno.EADDRINUSE)}
SYSTEM_MESSAGES |= {"Exited (137)", "docker unpause"}  # of the engine


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def is_container_command(command: str) -> bool:
    return bool(
        re.match(r"(\w+=\S+ )*(docker compose |make (up|down|logs|crash|compare)\b)", command)
    )


def is_host_command(command: str) -> bool:
    return bool(
        re.match(
            r"(\w+=('[^']*'|\S+) )*(\.venv/bin/python |make (backup|restore)\b|exec 3<>)", command
        )
    )


def of_kind(is_kind: object) -> list[object]:
    """Each block with its commands that are of a kind, as parameters of a test."""
    found = []
    for block in BLOCKS:
        commands = [c for c in block.commands if is_kind(c) and c not in NOT_RUN]  # type: ignore[operator]
        if commands:
            found.append(pytest.param(commands, id=block.where))
    return found


@cache
def source_text() -> str:
    """All code, settings and targets; string literals that go on in the next line are joined."""
    files = [*(ROOT / "app").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    files += [ROOT / ".env", ROOT / "Makefile", ROOT / "docker-compose.yml"]
    files += (ROOT / "images/cluster").glob("*.yml")
    text = "\n".join(file.read_text() for file in files if file != Path(__file__))
    return re.sub(r'"\s*\n\s*f?"', "", text)


# ---- Links, paths and names


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_resolve(page: Path) -> None:
    for link in markdown.links(page):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        assert not anchor or anchor in markdown.anchors(file), link


@pytest.mark.parametrize("page", [p for p in PAGES if p != README], ids=relative)
def test_readme_links_every_page_once(page: Path) -> None:
    targets = [(ROOT / link.partition("#")[0]).resolve() for link in markdown.links(README)]
    assert targets.count(page) == 1


def problem_of(span: str, page: Path) -> str:
    """What is wrong with a path, module or target in backticks; empty if nothing is."""
    if found := re.match(r"(?:\S+/)?python3? -m ([\w.]+)", span):
        return "" if module_exists(found[1]) else f"no module {found[1]}"
    if found := re.match(r"make ([a-z-]+)", span):
        known = re.search(rf"^{found[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if known else f"no target {found[1]}"
    name = re.sub(r":\w+$", "", span).rstrip("/")
    if re.fullmatch(r"(app|tests)(\.\w+)+", name) and Path(name).suffix not in FILE_SUFFIXES:
        return "" if module_exists(name) else f"no module {name}"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or GENERATED.fullmatch(name):
        return ""
    first, _, rest = name.partition("/")
    is_path = (rest and (ROOT / first).is_dir()) or Path(name).suffix in FILE_SUFFIXES
    exists = (ROOT / name).exists() or (page.parent / name).exists()
    return "" if exists or not is_path else f"no file {name}"


def module_exists(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    installed = name in ("pytest", "pdb", "jupyter", "dask")
    return installed or path.is_dir() or any(path.parent.glob(f"{path.name}.py*"))


@pytest.mark.parametrize("page", [p for p in PAGES if p != CHANGELOG], ids=relative)
def test_paths_modules_and_targets_in_backticks_exist(page: Path) -> None:
    """Not in the changelog, which also names what is gone."""
    problems = [problem_of(span, page) for span in markdown.code_spans(page)]
    assert [problem for problem in problems if problem] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_names_in_capitals_exist(page: Path) -> None:
    names = {
        name
        for span in markdown.code_spans(page)
        for name in re.findall(r"^([A-Z]+(?:_[A-Z]+)+)(?==|$)", span)
    }
    assert [name for name in names if name not in source_text()] == []


def test_messages_in_troubleshooting_are_those_of_the_code() -> None:
    section = README.read_text().partition("## Troubleshooting")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    spans = [span for row in rows for span in markdown.CODE.findall(row)]
    pieces = {piece.strip(" :") for span in spans for piece in span.split("...")} - {""}
    assert len(pieces) > 10
    unknown = [p for p in pieces - SYSTEM_MESSAGES if p not in source_text() and "make" not in p]
    assert unknown == []


def test_pre_commit_runs_the_tools_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    lint = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks == lint


THREAT_MODELS = [
    ("app/order_manager/SECURITY.md", "## What holds"),
    ("app/shared_memory_utils/README.md", "## Threat model\n"),
    ("app/shared_memory_utils/README.md", "## Threat model of the feed ports"),
    ("images/README.md", "## Threat model\n"),
    ("data/live.md", "## What an exchange can send\n"),
    ("app/dashboard/README.md", "## Threat model\n"),
]


@pytest.mark.parametrize(("page", "title"), THREAT_MODELS)
def test_each_promise_of_a_threat_model_names_a_test(page: str, title: str) -> None:
    """A row without one says in bold what does not hold."""
    section = (ROOT / page).read_text().partition(title)[2].partition("\n## ")[0]
    table = section.partition(" | test |\n")[2]
    rows = [line for line in table.splitlines() if line.startswith("|")][1:]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`: ((?:(?:, )?`test_\w+`)+)", row)
        assert named or "**" in row, row
        for file, tests in named:
            text = (ROOT / file).read_text()
            for test in re.findall(r"\w+", tests):
                assert re.search(rf"^(    )?def {test}\(", text, re.MULTILINE), (file, test)


# ---- Commands


def test_every_command_is_run_or_listed() -> None:
    """Exactly one of: run on the host, run in containers, listed as not run."""
    unknown = [
        f"{block.where}: {command}"
        for block in BLOCKS
        for command in block.commands
        if [is_host_command(command), is_container_command(command)].count(True) != 1
        and command not in NOT_RUN
    ]
    assert unknown == []


def test_every_listed_command_is_in_the_documentation() -> None:
    assert [c for c in NOT_RUN if not any(c in block.commands for block in BLOCKS)] == []


@pytest.mark.parametrize("command", NOT_RUN)
def test_listed_command_exists(command: str) -> None:
    """Its Make target, module or file does."""
    assert problem_of(command, README) == ""
    assert not command.startswith(".ci") or (ROOT / command).exists()


def test_every_block_has_a_language_that_is_checked_or_is_a_sample() -> None:
    odd = [b.where for b in BLOCKS if b.language not in ("", "bash", "bash script", "python")]
    assert odd == []


@pytest.fixture
def book_name() -> Iterator[str]:
    """A price book with AAPL at 173.2."""
    names = segment_name()
    name = next(names)
    with SharedPriceBook(["AAPL"], name) as book:
        book.update("AAPL", 173.2)
        yield name
    next(names, None)


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python"], ids=lambda block: block.where
)
def test_python_block_runs(block: Block, book_name: str, tmp_path: Path) -> None:
    """A strategy in it also runs in a backtest."""
    file = tmp_path / "block.py"
    file.write_text(block.text.replace('"price_book"', f'"{book_name}"'))
    names: dict[str, object] = {"__name__": "block"}
    exec(compile(file.read_text(), file, "exec"), names)
    for name, value in names.items():
        if isinstance(value, type) and issubclass(value, Strategy) and value is not Strategy:
            settings = Settings(
                strategy=f"{file}:{name}", data_path=str(ROOT / "data/market_data.csv")
            )
            result = backtest(settings, open_feed(settings), 1000)
            assert result.orders


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCommands]:
    """Runs commands on this host, beside a stack that is started for those that need one."""
    commands = HostCommands(tmp_path_factory.mktemp("host"))
    yield commands
    commands.close()


@pytest.mark.medium
@pytest.mark.timeout(240)
@pytest.mark.parametrize("commands", of_kind(is_host_command))
def test_host_commands(commands: list[str], host: HostCommands, tmp_path: Path) -> None:
    host.run(commands, tmp_path)


@pytest.mark.container
@pytest.mark.medium
@pytest.mark.timeout(600)
@pytest.mark.parametrize("commands", of_kind(is_container_command))
def test_container_commands(commands: list[str], compose_stack: object, tmp_path: Path) -> None:
    chaos = any("app chaos" in command for command in commands)  # as after make demo
    stack = compose_stack(PACE="2000/s", CHAOS=str(chaos).lower())  # type: ignore[operator]
    assert isinstance(stack, ComposeStack)
    ContainerCommands(stack, tmp_path).run(commands)
