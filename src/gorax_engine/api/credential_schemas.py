"""The shapes of requests and answers about credentials. Values go in and never come out."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StrictStr

from gorax_engine.api.schemas import AnswerModel, Description, RequestModel

Status = Literal["active", "inactive", "revoked"]
CredentialName = Annotated[StrictStr, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_-]+$")]
CredentialType = Annotated[StrictStr, Field(min_length=1, max_length=100)]


class CredentialIn(RequestModel):
    """A credential. `value` is an object with the fields of its `type`."""

    name: CredentialName
    type: CredentialType
    value: dict[str, Any]
    description: Description | None = None
    expires_at: AwareDatetime | None = None


class CredentialPatch(RequestModel):
    """A partial change; absent fields stay as they are. A `value` replaces all fields of the one before."""

    value: dict[str, Any] = Field(default_factory=dict)
    description: Description | None = None
    expires_at: AwareDatetime | None = None
    status: Status = "active"


class Credential(AnswerModel):
    """A credential without its value. `version` counts its values; `revision` every change, and is its ETag."""

    id: UUID
    name: str
    type: str
    description: str | None
    status: Status
    version: int
    revision: int
    expires_at: datetime | None
    created_by: UUID
    created_at: datetime
    updated_at: datetime
    last_used_at: datetime | None


class CredentialAccess(AnswerModel):
    """One act on a credential: create, read (by a step of a run), update or delete."""

    id: UUID
    credential_id: UUID
    credential_name: str | None
    accessed_by: UUID
    access_type: str
    ip_address: str | None
    user_agent: str | None
    success: bool
    error_message: str | None
    execution_id: UUID | None
    node_id: str | None
    accessed_at: datetime
