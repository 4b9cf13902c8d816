"""keelage in one process: the operator's decisions and the sidecar's, with SQLite as the ledger.

The same cores as on a cluster. What differs: manifests come from a folder, rights from
a function call, and status goes to a file that `keelage get` reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from keelage_api.errors import KeelageError, ManifestError
from keelage_api.mounted import CONFIG_MAP, SECRET, MountedKey
from keelage_api.proxy_config import ProxyConfig
from keelage_api.sync import SyncReply, SyncRequest
from keelage_api.v1alpha1.llmbudget import LLMBudgetStatus
from keelage_api.v1alpha1.manifest import Parsed, parse
from keelage_operator.core.budget_status import budget_status, refuses
from keelage_operator.core.compile import BudgetManifest, CompiledNamespace, RouteManifest, compile_namespace
from keelage_operator.core.identity import PodIdentity
from keelage_operator.core.ledger import Checkpoint
from keelage_operator.core.price_book import price_book
from keelage_operator.core.reconcile import status_of_route
from keelage_operator.core.route_status import SelectedPod, route_status
from keelage_operator.core.savings import SavingsBook
from keelage_operator.core.speakers import Speaker
from keelage_operator.core.threshold import message, passings
from keelage_operator.local_folder import API_VERSION, Folder, Manifest, read_folder
from keelage_operator.shell.books import Books
from keelage_operator.shell.ledger_book import LedgerBook
from keelage_operator.shell.ledger_page import LedgerUnavailable
from keelage_operator.shell.quota_book import QuotaBook
from keelage_operator.shell.refusals import Refusals
from keelage_operator.shell.sqlite_store import SqliteStore
from keelage_sidecar.app import Sidecar
from keelage_sidecar.core.log_line import LogLevel
from keelage_sidecar.settings import Address, Settings
from keelage_sidecar.shell.lease_keeper import LedgerUnreachable

LEDGER_FILE = "ledger.sqlite"
OBJECTS_FILE = "objects.json"
LOOK_S = 1.0
"""Between looks at the folder, and between writes of the status."""

POD = PodIdentity(namespace="", name="local", uid="local")


@dataclass(frozen=True, slots=True)
class Options:
    folder: Path
    state: Path
    listen: Address
    health: Address | None = None
    """Probes, metrics and the configuration in force; None: not served."""
    log_level: LogLevel = LogLevel.INFO


def state_dir(given: str | None) -> Path:
    """Where ledger and status are kept: as given, else where the platform keeps a user's state."""
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "keelage"


class LocalLedger:
    """LedgerClient of the sidecar in this process; hears what it says of itself."""

    def __init__(self, book: Books, namespace: str) -> None:
        self._book = book
        self._pod = replace(POD, namespace=namespace)
        self.speaker: Speaker | None = None
        self.savings = SavingsBook()

    async def sync(self, request: SyncRequest) -> SyncReply:
        self.speaker = Speaker(
            pod_uid=self._pod.uid,
            pod_name=self._pod.name,
            namespace=self._pod.namespace,
            config_version=request.config_version,
            config_error=request.config_error,
            missing_credentials=request.missing_credentials,
            heard_s=time.monotonic(),
            resting=request.resting,
        )
        try:
            rights = await self._book.sync(self._pod, request)
        except LedgerUnavailable as error:
            raise LedgerUnreachable(str(error)) from error
        self.savings.hear(self._pod, request)
        return SyncReply(rights=rights, tell_all=self._book.attribute(self._pod, request))


class LocalConfigs:
    """ConfigSource of the sidecar in this process."""

    def __init__(self) -> None:
        self._config: ProxyConfig | None = None
        self._changed = asyncio.Event()

    def publish(self, config: ProxyConfig) -> None:
        self._config = config
        self._changed.set()

    async def next(self, version: str) -> ProxyConfig:
        while self._config is None or self._config.version == version:
            self._changed.clear()
            await self._changed.wait()
        return self._config


@dataclass(slots=True)
class Objects:
    """The folder's routes and budgets with their status, as a cluster would hold them."""

    path: Path
    known: dict[str, dict[str, object]] = field(default_factory=dict)
    """By `<kind>/<name>`."""

    @classmethod
    def load(cls, state: Path) -> Objects:
        """What an earlier run left; a file that cannot be read is passed over, the ledger has the money."""
        path = state / OBJECTS_FILE
        try:
            known = json.loads(path.read_text())
        except (OSError, ValueError):
            known = {}
        return cls(path, known if isinstance(known, dict) else {})

    def take(self, manifest: Manifest, now: str) -> dict[str, object]:
        """The manifest with what the API server would add: uid, creation, generation, the status so far."""
        key = f"{manifest.kind}/{manifest.name}"
        before = self.known.get(key, {})
        known, written = before.get("metadata"), manifest.raw.get("metadata")
        old = known if isinstance(known, Mapping) else {}
        changed = before.get("spec") != manifest.raw.get("spec")
        generation = old.get("generation", 0)
        metadata = {
            **(written if isinstance(written, Mapping) else {}),
            "name": manifest.name,
            "namespace": manifest.namespace,
            "uid": old.get("uid") or key.lower(),
            "creationTimestamp": old.get("creationTimestamp") or now,
            "generation": (generation if isinstance(generation, int) else 0) + int(changed),
        }
        entry: dict[str, object] = {
            "apiVersion": API_VERSION,
            **manifest.raw,
            "metadata": metadata,
            "status": before.get("status", {}),
        }
        self.known[key] = entry
        return entry

    def keep(self, keys: frozenset[str]) -> None:
        for gone in self.known.keys() - keys:
            del self.known[gone]

    def save(self) -> None:
        """Atomically: `keelage get` reads at any moment."""
        scratch = self.path.with_suffix(".new")
        scratch.write_text(json.dumps(self.known))
        scratch.replace(self.path)


def unselective(raw: Mapping[str, object]) -> dict[str, object]:
    """The manifest without its pod selectors: local mode is the pod that each of them selects."""
    spec = raw.get("spec")
    if not isinstance(spec, Mapping):
        return dict(raw)
    spec = {key: value for key, value in spec.items() if key != "podSelector"}
    applies = spec.get("applies")
    if isinstance(applies, Mapping):
        spec["applies"] = {key: value for key, value in applies.items() if key != "podSelector"}
    return {**raw, "spec": spec}


def compile_folder(folder: Folder, objects: Objects, now: str) -> CompiledNamespace:
    """Everything in force, with what is wrong; an object's last good spec stays when its newest is bad."""
    taken = {(each.kind, each.name): objects.take(each, now) for each in folder.manifests}
    objects.keep(frozenset(f"{kind}/{name}" for kind, name in taken))
    routes = [RouteManifest.of(unselective(raw)) for (kind, _), raw in taken.items() if kind == "LLMRoute"]
    budgets = [BudgetManifest.of(unselective(raw)) for (kind, _), raw in taken.items() if kind == "LLMBudget"]
    return compile_namespace(folder.namespace, routes, budgets, price_book())


def problems(compiled: CompiledNamespace) -> Iterator[tuple[bool, str]]:
    """Each problem as (refuses the newest spec, text)."""
    for route in compiled.routes.values():
        yield from ((each.refuses, f"LLMRoute {route.name}: {each.message}") for each in route.problems)
    for budget in compiled.budgets.values():
        yield from ((each.refuses, f"LLMBudget {budget.name}: {each.message}") for each in budget.problems)


def write_credentials(folder: Folder, directory: Path) -> None:
    """Secrets and ConfigMaps as the kubelet would mount them, for this user's eyes only."""
    held = [(SECRET, folder.secrets), (CONFIG_MAP, folder.config_maps)]
    for kind, name, values in ((kind, *each) for kind, objects in held for each in objects.items()):
        for key, value in values.items():
            path = directory / MountedKey(name, key, kind).path
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(value)


def _stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    """Changes whenever a manifest was written, added or removed."""
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    stamps = []
    for file in files:
        with contextlib.suppress(OSError):
            stamps.append((str(file), file.stat().st_mtime_ns))
    return tuple(stamps)


class Local:
    """One run of local mode: follows the folder, keeps the status."""

    def __init__(self, options: Options, credentials: Path, say: Callable[[str], None]) -> None:
        """Raises ManifestError if the folder is not one to begin with."""
        self._options = options
        self._credentials = credentials
        self._say = say
        self._objects = Objects.load(options.state)
        self._stamp = _stamp(options.folder)
        folder = read_folder(options.folder)
        write_credentials(folder, credentials)
        self._compiled = compile_folder(folder, self._objects, _now())
        refusing = [text for refuses, text in problems(self._compiled) if refuses]
        if not any(route.route for route in self._compiled.routes.values()):
            raise ManifestError("; ".join(refusing) or f"{options.folder}: no route can be obeyed")
        self.configs = LocalConfigs()
        self.book = LedgerBook(
            SqliteStore(options.state / LEDGER_FILE), wall=lambda: datetime.now(UTC), clock=time.monotonic
        )
        self.refusals = Refusals(self.book, lambda _budget: None)
        self.quotas = QuotaBook(time.monotonic)
        self.books = Books(self.book, self.refusals, self.quotas)
        self.ledger = LocalLedger(self.books, folder.namespace)

    async def begin(self) -> None:
        """Put the first configuration in force."""
        self._publish()
        await self.books.lead(after_nobody=True)

    async def follow(self) -> None:
        """Look at the folder and write the status, each second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            stamp = _stamp(self._options.folder)
            if stamp != self._stamp:
                self._stamp = stamp
                self._reload()
            self.write_status()

    def _reload(self) -> None:
        try:
            folder = read_folder(self._options.folder)
            write_credentials(folder, self._credentials)
        except (ManifestError, OSError) as error:
            self._say(f"the manifests changed and are not in force: {error}")
            return
        self._compiled = compile_folder(folder, self._objects, _now())
        self._publish()
        self._say("the manifests changed and were read again")

    def _publish(self) -> None:
        for _, text in problems(self._compiled):
            self._say(text)
        self.books.set_budgets(self._compiled.budgets_in_force(), self._checkpoints())
        self.books.set_quotas({quota.name: quota for quota in self._compiled.quotas()})
        self.configs.publish(self._compiled.config_for({}))

    def _checkpoints(self) -> dict[str, Checkpoint]:
        found = {}
        for name in self._compiled.budgets:
            status = self._status(f"LLMBudget/{name}", LLMBudgetStatus)
            if status.window.id:
                found[f"{self._compiled.namespace}/{name}"] = Checkpoint(
                    status.window.id, status.amounts.committed, status.amounts.shards
                )
        return found

    def _status(self, key: str, kind: type[LLMBudgetStatus]) -> LLMBudgetStatus:
        parsed = parse(kind, self._objects.known.get(key, {}).get("status") or {})
        return parsed.value if isinstance(parsed, Parsed) else kind()

    def write_status(self) -> None:
        """What the operator would write to the objects, into the file that `keelage get` reads."""
        now = _now()
        config = self._compiled.config_for({})
        pod = SelectedPod(POD.name, config.version, self.ledger.speaker)
        for name, route in self._compiled.routes.items():
            known = self._objects.known[f"LLMRoute/{name}"]
            before = status_of_route(known)
            saved = self.ledger.savings.shown(self._compiled.namespace, name, route.uid, before)
            known["status"] = route_status(before, route, [pod], now, self.quotas.crowded(), saved)
        for name, budget in self._compiled.budgets.items():
            full, key = f"{self._compiled.namespace}/{name}", f"LLMBudget/{name}"
            figures = self.book.figures(full)
            former = self._status(key, LLMBudgetStatus)
            terms = budget.in_force
            refusing = (
                figures is not None
                and terms is not None
                and refuses(figures, terms, former, self.refusals.refused(full, figures.window.id, figures.cap))
            )
            self._objects.known[key]["status"] = budget_status(former, budget, figures, now, refusing)
            status = self._status(key, LLMBudgetStatus)
            for passing in passings(former, status, terms):
                if passing.event:
                    self._say(f"LLMBudget {name}: {message(passing, status)}")
        self._objects.save()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def run(options: Options) -> None:
    """Serve until SIGINT or SIGTERM. Raises KeelageError for what keeps it from beginning."""

    def say(text: str) -> None:
        sys.stderr.write(f"keelage: {text}\n")
        sys.stderr.flush()

    options.state.mkdir(parents=True, exist_ok=True)
    with _alone(options.state), tempfile.TemporaryDirectory(prefix="keelage-") as credentials:
        local = Local(options, Path(credentials), say)
        await local.begin()
        settings = Settings(
            listen=options.listen,
            health=options.health,
            credentials_dir=Path(credentials),
            state_dir=options.state,
            pod=POD.name,
            log_level=options.log_level,
        )
        sidecar = Sidecar(settings, local.ledger, local.configs)
        ports = await sidecar.start()
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, sidecar.stop)
        say(f"listening on {options.listen.host}:{ports.proxy}")
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(local.follow())
            await sidecar.run()
            following.cancel()
        local.write_status()


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Two processes on one journal would each believe it to be their own."""
    import fcntl

    with (state / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise KeelageError(f"{state} is in use by another keelage: stop it, or give another --state") from error
        yield
