"""The daemon as a process: refusing to start, draining, dying, sharing its port, sitting out an outage of Postgres."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from .conftest import empty_folder
from .harness import Api, Process, Server, flow, free_port, fresh, gorax, node, run_serve, until
from .postgres import Postgres, run_postgres
from .sink import Reply, Sink, bomb

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

QUICK = {"GORAX_WORKER__LEASE": "3s", "GORAX_WORKER__HEARTBEAT": "1s", "GORAX_WORKER__POLL": "200ms"}
LOOPBACK = {"GORAX_OUTBOUND__ALLOW": "127.0.0.0/8"}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with empty_folder() as made:
        yield made


@pytest.fixture(scope="module")
def postgres(home: Path) -> Iterator[Postgres]:
    with run_postgres(home) as running:
        yield running


def migrated(postgres: Postgres, folder: Path) -> tuple[str, str]:
    """Make a database with the schema and a tenant, as docs/how-to/operate.md says; return its DSN and a key."""
    dsn = postgres.create_database(fresh("db").replace("-", "_"))
    env = {"GORAX_DATABASE__DSN": dsn}
    assert gorax("migrate", env=env, cwd=folder).code == 0
    made = gorax("--json", "tenant", "create", "Acme", env=env, cwd=folder)
    assert made.code == 0, made.err
    return dsn, made.json()["api_key"]


@pytest.fixture(scope="module")
def database(postgres: Postgres, home: Path) -> tuple[str, str]:
    """A migrated database with a tenant, shared by the tests that start daemons on it one after another."""
    return migrated(postgres, home)


def refused(folder: Path, code: int, *arguments: str, **env: str) -> str:
    """Check that `gorax serve` refuses to start, with one sentence; return its error code."""
    ports = {"GORAX_SERVER__PORT": str(free_port()), "GORAX_MANAGEMENT__PORT": str(free_port())}
    done = gorax(*(arguments or ("serve",)), env={**ports, **env}, cwd=folder)
    assert done.code == code, done.out + done.err
    lines = [line for line in done.err.strip().splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.err
    found = re.fullmatch(r"error: .+\. \[([a-z_]+)\]", lines[0])
    assert found, lines[0]
    return found[1]


class TestRefusals:
    def test_no_database_configured(self, folder: Path) -> None:
        refused(folder, 78)

    def test_nobody_listens(self, folder: Path) -> None:
        dsn = f"postgresql://a:b@127.0.0.1:{free_port()}/x"
        refused(folder, 69, GORAX_DATABASE__DSN=dsn)
        refused(folder, 69, "migrate", GORAX_DATABASE__DSN=dsn)
        refused(folder, 69, "serve", "--processes", "2", GORAX_DATABASE__DSN=dsn)

    def test_a_host_that_does_not_exist(self, folder: Path) -> None:
        refused(folder, 69, GORAX_DATABASE__DSN="postgresql://a:b@nowhere.invalid/x")

    def test_no_dsn_at_all(self, folder: Path) -> None:
        refused(folder, 78, GORAX_DATABASE__DSN="nonsense")

    def test_a_wrong_password_or_database(self, database: tuple[str, str], folder: Path) -> None:
        dsn, _ = database
        refused(folder, 78, GORAX_DATABASE__DSN=re.sub(r":[^:@]+@", ":wrong@", dsn))
        refused(folder, 78, GORAX_DATABASE__DSN=dsn.rpartition("/")[0] + "/nowhere")

    def test_an_unmigrated_schema(self, postgres: Postgres, folder: Path) -> None:
        dsn = postgres.create_database(fresh("db").replace("-", "_"))
        refused(folder, 78, GORAX_DATABASE__DSN=dsn)
        assert gorax("migrate", "--check", env={"GORAX_DATABASE__DSN": dsn}, cwd=folder).code == 1
        assert gorax("migrate", "--dry-run", env={"GORAX_DATABASE__DSN": dsn}, cwd=folder).code == 0
        refused(folder, 78, GORAX_DATABASE__DSN=dsn)

    def test_a_newer_schema(self, postgres: Postgres, folder: Path) -> None:
        dsn = postgres.create_database(fresh("db").replace("-", "_"))
        assert gorax("migrate", env={"GORAX_DATABASE__DSN": dsn}, cwd=folder).code == 0
        assert gorax("migrate", "--check", env={"GORAX_DATABASE__DSN": dsn}, cwd=folder).code == 0
        postgres.execute(dsn, "UPDATE schema_migrations SET version = version + 9000 WHERE version = "
                         "(SELECT max(version) FROM schema_migrations)")  # fmt: skip
        refused(folder, 78, GORAX_DATABASE__DSN=dsn)
        refused(folder, 78, "migrate", GORAX_DATABASE__DSN=dsn)

    def test_roles_that_would_see_everything(self, postgres: Postgres, database: tuple[str, str], folder: Path) -> None:
        dsn, _ = database
        admin = postgres.admin_dsn.rpartition("/")[0] + "/" + dsn.rpartition("/")[2]
        for key in ("GORAX_DATABASE__APP_DSN", "GORAX_DATABASE__WORKER_DSN"):
            assert refused(folder, 78, GORAX_DATABASE__DSN=dsn, **{key: admin}) == "role_bypasses_rls"
        role = fresh("bypass").replace("-", "_")
        postgres.execute(
            admin, f"CREATE ROLE {role} LOGIN PASSWORD 'p' BYPASSRLS", f"GRANT gorax_app, gorax_worker TO {role}"
        )
        bypassing = re.sub(r"//[^@]+@", f"//{role}:p@", dsn)
        for key in ("GORAX_DATABASE__APP_DSN", "GORAX_DATABASE__WORKER_DSN"):
            assert refused(folder, 78, GORAX_DATABASE__DSN=dsn, **{key: bypassing}) == "role_bypasses_rls"

    def test_logins_of_their_own(self, postgres: Postgres, database: tuple[str, str], folder: Path) -> None:
        dsn, key = database
        admin = postgres.admin_dsn.rpartition("/")[0] + "/" + dsn.rpartition("/")[2]
        names = {"app": fresh("app").replace("-", "_"), "worker": fresh("worker").replace("-", "_")}
        for kind, name in names.items():
            postgres.execute(admin, f"CREATE ROLE {name} LOGIN PASSWORD 'p' IN ROLE gorax_{kind}")
        settings = {
            "GORAX_DATABASE__APP_DSN": re.sub(r"//[^@]+@", f"//{names['app']}:p@", dsn),
            "GORAX_DATABASE__WORKER_DSN": re.sub(r"//[^@]+@", f"//{names['worker']}:p@", dsn),
        }
        with run_serve(folder, dsn, settings=settings) as server:
            api = Api(server.url, key)
            assert api.run(flow(node("f", "formula", {"expression": "1"}))).output == {"f": 1}
            api.close()

    @pytest.mark.parametrize("version", ["14.12", "9.6.1"])
    def test_an_old_postgres(self, folder: Path, version: str) -> None:
        with OldPostgres(version) as port:
            dsn = f"postgresql://a:b@127.0.0.1:{port}/x?sslmode=disable"
            refused(folder, 78, GORAX_DATABASE__DSN=dsn)
            refused(folder, 78, "migrate", GORAX_DATABASE__DSN=dsn)

    def test_settings(self, folder: Path) -> None:
        (folder / "bad.toml").write_text("[server]\nprot = 1\n")
        assert refused(folder, 78, "--config", "bad.toml", "serve") == "unknown_setting"
        refused(folder, 78, GORAX_SERVER__PORT="many")


class OldPostgres:
    """A stand-in for an old server: lets anybody in, says its version, and knows no other answer than an error."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                try:
                    self._talk(stream)
                except (OSError, struct.error):
                    continue

    def _talk(self, stream: Any) -> None:
        (length,) = struct.unpack("!i", stream.read(4))
        stream.read(length - 4)
        parameters = {"server_version": self._version, "client_encoding": "UTF8", "integer_datetimes": "on"}
        number = "".join(f"{int(part):02d}" for part in self._version.split("."))
        parts = [message(b"R", struct.pack("!i", 0))]
        parts += [message(b"S", f"{name}\0{value}\0".encode()) for name, value in parameters.items()]
        parts += [message(b"K", struct.pack("!ii", 1, 1)), message(b"Z", b"I")]
        stream.write(b"".join(parts))
        stream.flush()
        while kind := stream.read(1):
            (length,) = struct.unpack("!i", stream.read(4))
            body = stream.read(length - 4)
            if kind == b"X":
                return
            if kind == b"Q" and b"server_version_num" in body:
                value = number.encode()
                column = b"v\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
                stream.write(
                    message(b"T", struct.pack("!h", 1) + column)
                    + message(b"D", struct.pack("!hi", 1, len(value)) + value)
                    + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
                )  # fmt: skip
            elif kind in {b"Q", b"S"}:
                fields = b"SERROR\0C42704\0Mthis server is too old for that\0\0"
                stream.write(message(b"E", fields) + message(b"Z", b"I"))
            stream.flush()


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


class TestDrain:
    def test_sigterm_finishes_what_runs_and_releases_what_does_not(
        self, database: tuple[str, str], postgres: Postgres, folder: Path, sink: Sink
    ) -> None:
        dsn, key = database
        hold = threading.Event()
        quick, stuck = f"/quick/{fresh()}", f"/stuck/{fresh()}"
        urls = sink.on(quick, Reply(hold=hold)), sink.on(stuck, Reply(hold=threading.Event()))
        settings = {**LOOPBACK, "GORAX_WORKER__DRAIN_TIMEOUT": "2s"}
        with run_serve(folder, dsn, settings=settings) as server:
            api = Api(server.url, key)
            ids = [api.start(api.publish(flow(node("call", "http_request", {"url": url})))) for url in urls]
            api.close()
            sink.wait_for(quick)
            sink.wait_for(stuck)
            server.process.signal(signal.SIGTERM)
            hold.set()
            assert server.process.wait(12) == 0
        assert postgres.fetch(dsn, "SELECT 1 FROM workers") == []
        assert postgres.fetch(dsn, "SELECT 1 FROM execution_queue WHERE owner IS NOT NULL") == []
        rows = postgres.fetch(dsn, "SELECT id::text, status FROM executions WHERE id = ANY($1::uuid[])", ids)
        assert {row["id"]: row["status"] for row in rows} == {ids[0]: "completed", ids[1]: "running"}
        with run_serve(folder, dsn, settings=settings) as server:
            sink.on(stuck, Reply())
            api = Api(server.url, key)
            assert api.ended(ids[1])["status"] == "completed"
            api.close()
        keys = {asked.headers["idempotency-key"] for asked in sink.asked(stuck)}
        assert keys == {f"{ids[1]}:call:"}

    def test_a_second_signal_stops_at_once(self, database: tuple[str, str], folder: Path, sink: Sink) -> None:
        dsn, key = database
        path = f"/second/{fresh()}"
        url = sink.on(path, Reply(hold=threading.Event()))
        with run_serve(folder, dsn, settings=LOOPBACK) as server:
            api = Api(server.url, key)
            api.start(api.publish(flow(node("call", "http_request", {"url": url}))))
            api.close()
            sink.wait_for(path)
            server.process.signal(signal.SIGINT)
            server.process.wait_for_text("draining")
            server.process.signal(signal.SIGINT)
            assert server.process.wait(3) != 0

    def test_while_it_drains_nothing_is_accepted_and_readyz_says_so(
        self, database: tuple[str, str], folder: Path, sink: Sink
    ) -> None:
        dsn, key = database
        path, hold = f"/drain/{fresh()}", threading.Event()
        url = sink.on(path, Reply(hold=hold))
        with run_serve(folder, dsn, settings=LOOPBACK) as server:
            api = Api(server.url, key)
            workflow = api.publish(flow(node("call", "http_request", {"url": url})))
            api.start(workflow)
            sink.wait_for(path)
            server.process.signal(signal.SIGTERM)
            server.process.wait_for_text("draining")
            with pytest.raises(httpx2.TransportError):
                until(lambda: api("POST", f"/workflows/{workflow['id']}/execute", {"input": 1}).status_code == 599, 10)
            api.close()
            hold.set()
            assert server.process.wait(15) == 0

    def test_without_work_it_is_quick(self, database: tuple[str, str], folder: Path) -> None:
        with run_serve(folder, database[0]) as server:
            server.process.signal(signal.SIGTERM)
            assert server.process.wait(5) == 0


class TestProcesses:
    def test_one_is_killed_and_all_runs_finish(self, database: tuple[str, str], folder: Path, sink: Sink) -> None:
        dsn, key = database
        path = f"/storm/{fresh()}"
        url = sink.on(path, Reply())
        definition = flow(
            node("a", "http_request", {"url": url + "/{{ trigger.body }}"}),
            node("d", "delay", {"duration": "300ms"}),
            node("b", "formula", {"expression": "trigger.body"}),
        )
        with run_serve(folder, dsn, "--processes", "2", settings={**QUICK, **LOOPBACK}) as server:
            second = f"http://127.0.0.1:{server.management_port + 1}"
            until(lambda: _answers(second + "/readyz"))
            assert httpx2.get(second + "/metrics").status_code == 200
            children = _children(server.process.pid)
            assert len(children) == 2
            api = Api(server.url, key)
            workflow = api.publish(definition)
            ids = []
            for number in range(30):
                client = Api(server.url, key)  # A connection of its own: both processes get some.
                ids.append(client.start(workflow, number))
                client.close()
                if number == 15:
                    os.kill(children[0], signal.SIGKILL)
                    until(lambda: _answers(server.url + "/api/docs"))
            for number, execution_id in enumerate(ids):
                execution = api.ended(execution_id, timeout=30)
                assert (execution["status"], execution["output_data"]) == ("completed", {"b": number})
            api.close()
            until(lambda: len(_children(server.process.pid)) == 2)
            server.process.signal(signal.SIGTERM)
            server.process.wait(40)

    def test_roles(self, postgres: Postgres, folder: Path) -> None:
        dsn, key = migrated(postgres, folder)
        with run_serve(folder, dsn, "--roles", "api") as front:
            api = Api(front.url, key)
            execution_id = api.start(api.publish(flow(node("f", "formula", {"expression": "1"}))))
            assert api.execution(execution_id)["status"] == "pending"
            assert api.data("GET", f"/executions/{execution_id}/explain")["blocker"] == "no_worker"
            with run_serve(folder, dsn, "--roles", "worker,scheduler,maintenance") as back:
                assert api.ended(execution_id)["status"] == "completed"
                assert not _answers(back.url + "/api/docs")
            api.close()
        assert gorax("serve", "--roles", "nonsense", env={"GORAX_DATABASE__DSN": dsn}, cwd=folder).code == 2


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]


class TestOutage:
    def test_postgres_goes_and_comes_back(self, folder: Path, sink: Sink) -> None:
        with run_postgres(folder) as postgres:
            dsn, key = migrated(postgres, folder)
            with run_serve(folder, dsn, settings={**QUICK, **LOOPBACK}) as server:
                self._outage(postgres, server, Api(server.url, key), sink)

    def _outage(self, postgres: Postgres, server: Server, api: Api, sink: Sink) -> None:
        path, hold = f"/outage/{fresh()}", threading.Event()
        url = sink.on(path, Reply(hold=hold))
        workflow = api.publish(
            flow(node("call", "http_request", {"url": url}), node("f", "formula", {"expression": "1"}))
        )
        parked = api.start(api.publish(flow(node("d", "delay", {"duration": "6s"}))))
        running = api.start(workflow)
        sink.wait_for(path)
        postgres.kill()
        try:
            answer = until(lambda: _of_status(api("GET", "/executions"), 503))
            assert answer.headers["content-type"].startswith("application/problem+json")
            assert int(answer.headers["retry-after"]) >= 1
            answer = api("POST", f"/workflows/{workflow['id']}/execute", {"input": 1})
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
            management = f"http://127.0.0.1:{server.management_port}"
            until(lambda: httpx2.get(management + "/readyz").status_code == 503)
            assert httpx2.get(management + "/livez").status_code == 200
            # Longer than the lease: the worker gives up what it held.
            server.process.wait_for_text("lease_lost", timeout=20)
            hold.set()
            assert server.process.code is None
        finally:
            postgres.restart()
        until(lambda: _of_status(api("GET", "/executions"), 200), timeout=30)
        assert api.ended(running)["output_data"] == {"f": 1}
        assert api.ended(parked)["status"] == "completed"
        assert api.run(flow(node("f", "formula", {"expression": "2"}))).output == {"f": 2}
        until(server.ready)
        api.close()


def _of_status(answer: httpx2.Response, status: int) -> httpx2.Response | None:
    return answer if answer.status_code == status else None


class TestOutbound:
    def call(self, api: Api, url: str, **more: Any) -> tuple[str, str]:
        return api.run(flow(node("call", "http_request", {"url": url}, **more))).error

    def test_private_ranges_are_denied_by_default(self, database: tuple[str, str], folder: Path, sink: Sink) -> None:
        dsn, key = database
        path = f"/denied/{fresh()}"
        with run_serve(folder, dsn) as server:
            api = Api(server.url, key)
            for url in (
                sink.url + path, f"http://localhost:{sink.port}{path}", f"http://[::1]:{sink.port}{path}",
                f"http://2130706433:{sink.port}{path}", f"http://0.0.0.0:{sink.port}{path}",
                f"http://[::ffff:127.0.0.1]:{sink.port}{path}", "http://169.254.169.254/latest/meta-data",
                "http://10.0.0.1/", "http://192.168.1.1/", "http://[fd00::1]/",
            ):  # fmt: skip
                assert self.call(api, url)[0] == "outbound_denied", url
            api.close()
        assert sink.asked(path) == []

    def test_what_an_allowed_host_may_not_do(self, database: tuple[str, str], folder: Path, sink: Sink) -> None:
        dsn, key = database
        with run_serve(folder, dsn, settings={"GORAX_OUTBOUND__ALLOW": "127.0.0.1/32"}) as server:
            api = Api(server.url, key)
            url = sink.on("/redirect", Reply(302, headers={"Location": "http://169.254.169.254/latest/"}))
            assert self.call(api, url)[0] == "outbound_denied"
            for url in ("file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1/"):
                assert self.call(api, url)[0] in {"outbound_denied", "invalid_url"}
            url = sink.on("/bomb", Reply(raw=bomb(200), headers={"Content-Encoding": "gzip"}))
            assert self.call(api, url)[0] == "response_too_large"
            url = sink.on("/endless", Reply(endless=True))
            assert self.call(api, url)[0] == "response_too_large"
            url = sink.on("/huge", Reply(raw=b"", headers={"Content-Length": "10000000000"}))
            assert self.call(api, url)[0] == "response_too_large"
            api.close()


def test_doctor(database: tuple[str, str], folder: Path) -> None:
    done = gorax("doctor", env={"GORAX_DATABASE__DSN": database[0]}, cwd=folder)
    assert done.code in {0, 1}
    assert "Traceback" not in done.err
    gone = gorax("doctor", env={"GORAX_DATABASE__DSN": f"postgresql://a:b@127.0.0.1:{free_port()}/x"}, cwd=folder)
    assert gone.code != 0
    assert "Traceback" not in gone.err


def test_sighup_keeps_it_running(database: tuple[str, str], folder: Path) -> None:
    with run_serve(folder, database[0]) as server:
        server.process.signal(signal.SIGHUP)
        server.process.wait_for_text("reloaded")
        assert server.ready()


def test_a_port_in_use(database: tuple[str, str], folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = Process(
            ["serve"],
            {"GORAX_DATABASE__DSN": database[0], "GORAX_SERVER__PORT": str(taken.getsockname()[1]),
             "GORAX_MANAGEMENT__PORT": str(free_port())},
            folder, folder / "taken.log",
        )  # fmt: skip
        try:
            assert process.wait(20) == 78, process.text()
        finally:
            process.kill()
