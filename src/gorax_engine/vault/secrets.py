"""Handing secrets to steps: looked up, logged and opened at the last moment, together with what masks them again.

Requests that come together share one statement: while one is on its way, the next ones gather.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import anyio
import anyio.to_thread

from gorax_engine.errors import Conflict, GoraxError, NotFound
from gorax_engine.store import credentials
from gorax_engine.store.credentials import Access, Use, UsedCredential
from gorax_engine.store.lookup_cache import LookupCache
from gorax_engine.store.session import RecordRejected
from gorax_engine.telemetry import TelemetryEvent, VaultOperation
from gorax_engine.vault.envelope import unseal
from gorax_engine.vault.keys import EncryptionContext, KeyProvider, Undecryptable
from gorax_engine.vault.masking import Masker
from gorax_engine.vault.types import NAME, login_of, secrets_of

if TYPE_CHECKING:
    from gorax_engine.core.model import Json
    from gorax_engine.store.session import Fetcher

ENGINE: Final = UUID("00000000-0000-4000-8000-000000000001")
"""Who acts where no principal does: the engine itself."""

CACHE_SECONDS: Final = 60.0
"""For how long an unwrapped data key, and what masks a value, stay in memory. Whether a credential may be used is asked
anew each time."""

_MAX_DATA_KEYS: Final = 1000
_MAX_MASKERS: Final = 200
_MAX_BATCH: Final = 500
_LONG_SECRETS: Final = 2048
"""Characters of secrets above which a masker is built in a thread: that takes tens of milliseconds."""

_REFUSALS: Final = {
    "inactive": ("credential_inactive", "The credential `{name}` is switched off; make it active, or use another."),
    "revoked": ("credential_inactive", "The credential `{name}` is revoked; use another."),
    "expired": ("credential_expired", "The credential `{name}` has expired; give it a new value or a later expiry."),
}


@dataclass(frozen=True, slots=True)
class Revealed:
    """Credentials in the clear, by name: `{"name", "type", **fields}`. Not to be changed, kept, logged or stored.

    `mask` and `mask_text` take every form of them out of what is shown or recorded.
    """

    values: Mapping[str, dict[str, Json]] = field(repr=False)
    _masker: Masker

    def mask(self, value: Json) -> Json:
        """Return a JSON value with the secrets masked; the same object if it holds none."""
        return self._masker.mask(value)

    def mask_text(self, text: str) -> str:
        """Return a text with the secrets masked."""
        return self._masker.mask_text(text)


class Secrets:
    """Opens credentials for the engine, for all tenants: `session` runs as the worker's role and is used by this alone.

    Use it from one event loop. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        session: Fetcher,
        provider: KeyProvider,
        emit: Callable[[TelemetryEvent], None] = lambda _event: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._emit = emit
        self._batch = _Batch(session)
        self._provider = provider
        self._data_keys: LookupCache[_WrappedKey, bytes] = LookupCache(
            self._unwrap, ttl=CACHE_SECONDS, max_entries=_MAX_DATA_KEYS, clock=clock
        )
        # The key of an entry is a digest: the cache must not be a list of secrets that outlives them.
        self._maskers: dict[bytes, tuple[float, Masker]] = {}
        self._clock = clock

    async def reveal(
        self,
        tenant_id: UUID,
        names: Sequence[str] | frozenset[str],
        *,
        execution_id: UUID | None = None,
        node_id: str | None = None,
        accessed_by: UUID = ENGINE,
    ) -> Revealed:
        """Return the tenant's credentials of these names; their use is logged before they are handed out.

        Raises NotFound (credential_not_found), Conflict (credential_inactive, credential_expired,
        credential_unreadable) and Unavailable (vault_unavailable, unavailable) about the first that can't be used, in
        the order of their names.
        """
        wanted = sorted(set(names))
        uses = [Use(tenant_id, name, accessed_by, execution_id, node_id) for name in wanted]
        # What can't be a name isn't asked for: the database might refuse it, and with it what others ask for.
        sent = [use for use in uses if NAME.fullmatch(use.name)]
        found = await self._batch.use(sent) if sent else {}
        values: dict[str, dict[str, Json]] = {}
        secrets: list[str] = []
        logins: list[str] = []
        for use in uses:
            credential = self._usable(use, found.get((tenant_id, use.name)))
            value = await self._open(use, credential)
            self._emit(VaultOperation("read", "ok"))
            values[use.name] = {"name": use.name, "type": credential.type, **value}
            secrets += secrets_of(credential.type, value)
            login = login_of(value)
            if login is not None:
                logins.append(login)
        return Revealed(values, await self._masker(secrets, logins))

    def _usable(self, use: Use, credential: UsedCredential | None) -> UsedCredential:
        if credential is None:
            self._emit(VaultOperation("read", "credential_not_found"))
            message = f"There is no credential `{use.name[:255]}`; create it, or correct the name."
            raise NotFound(message, code="credential_not_found")
        if credential.state != "active":
            code, message = _REFUSALS[credential.state]
            self._emit(VaultOperation("read", code))
            raise Conflict(message.format(name=use.name), code=code)
        return credential

    async def _open(self, use: Use, credential: UsedCredential) -> dict[str, Json]:
        context = EncryptionContext(credential.tenant_id, credential.id, credential.value.version)
        try:
            data_key = await self._data_keys.get(
                _WrappedKey(credential.value.encrypted_dek, credential.value.kms_key_id, context)
            )
            return unseal(data_key, context, credential.value)
        except Undecryptable as error:
            message = f"The credential `{use.name}` can't be decrypted, its row is damaged; store its value anew."
            refusal = Conflict(message, code="credential_unreadable")
            await self._log_failure(use, credential, refusal)
            raise refusal from error
        except GoraxError as error:
            await self._log_failure(use, credential, error)
            raise

    async def _log_failure(self, use: Use, credential: UsedCredential, error: GoraxError) -> None:
        self._emit(VaultOperation("read", error.code))
        access = Access(
            use.tenant_id,
            credential.id,
            use.name,
            use.accessed_by,
            "read",
            error.message,
            execution_id=use.execution_id,
            node_id=use.node_id,
        )
        await credentials.log_failure_of_use(self._session, access)

    async def _unwrap(self, key: _WrappedKey) -> bytes:
        return await self._provider.decrypt(key.encrypted, key.key_id, key.context)

    async def _masker(self, secrets: Sequence[str], logins: Sequence[str]) -> Masker:
        digest = hashlib.sha256("\0".join([*secrets, "", *logins]).encode("utf-8", "surrogatepass")).digest()
        now = self._clock()
        known = self._maskers.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        if sum(map(len, secrets)) > _LONG_SECRETS:
            masker = await anyio.to_thread.run_sync(Masker, secrets, logins)
        else:
            masker = Masker(secrets, logins)
        for old in [each for each, (expires, _) in self._maskers.items() if expires <= now]:
            del self._maskers[old]
        while len(self._maskers) >= _MAX_MASKERS:
            del self._maskers[next(iter(self._maskers))]
        self._maskers[digest] = (now + CACHE_SECONDS, masker)
        return masker


@dataclass(frozen=True, slots=True)
class _WrappedKey:
    encrypted: bytes
    key_id: str
    context: EncryptionContext


_Found: TypeAlias = Mapping[tuple[UUID, str], UsedCredential]


class _Request:
    """What one caller asks for, and how it ended."""

    __slots__ = ("answer", "uses")

    def __init__(self, uses: Sequence[Use]) -> None:
        self.uses = uses
        self.answer: _Found | Exception | None = None


class _Batch:
    """Lets callers share statements. Whoever gets the lock sends for all who wait; nobody needs a task of its own."""

    def __init__(self, session: Fetcher) -> None:
        self._session = session
        self._lock = anyio.Lock()
        self._waiting: list[_Request] = []

    async def use(self, uses: Sequence[Use]) -> _Found:
        """Return what was found of `uses`, all of it logged. Raises what the session raises."""
        request = _Request(uses)
        self._waiting.append(request)
        try:
            while request.answer is None:
                async with self._lock:
                    # The owner of the lock before may have asked for this one too.
                    if request in self._waiting:
                        await self._send(self._next())
        finally:
            # Cancelled, it asks for nothing any more.
            if request in self._waiting:
                self._waiting.remove(request)
        if isinstance(request.answer, Exception):
            raise request.answer
        return request.answer

    def _next(self) -> list[_Request]:
        batch: list[_Request] = []
        size = 0
        for request in self._waiting:
            size += len(request.uses)
            if batch and size > _MAX_BATCH:
                break
            batch.append(request)
        return batch

    async def _send(self, batch: Sequence[_Request]) -> None:
        answer: _Found | Exception
        try:
            answer = await credentials.use(self._session, [use for request in batch for use in request.uses])
        except RecordRejected as error:
            if len(batch) > 1:
                # One of them is at fault; the others must not suffer for it.
                for request in batch:
                    await self._send([request])
                return
            answer = error
        except Exception as error:  # noqa: BLE001 - it is raised again, by each of those who asked
            answer = error
        for request in batch:
            request.answer = answer
            if request in self._waiting:
                self._waiting.remove(request)
