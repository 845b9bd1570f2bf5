"""The node types that speak to other people's services, made of what they share: the client and the policy."""

from gorax_engine.nodes.api import TaskNode
from gorax_engine.nodes.egress import OutboundPolicy
from gorax_engine.nodes.outbound import OutboundClient
from gorax_engine.nodes.smtp import SmtpClient
from gorax_engine.nodes.tasks.email import Email
from gorax_engine.nodes.tasks.http_request import HttpRequest
from gorax_engine.nodes.tasks.slack import slack_nodes
from gorax_engine.nodes.tasks.sql_query import SqlQuery


def integrations(outbound: OutboundClient, policy: OutboundPolicy) -> list[TaskNode]:
    """Return the node types; `policy` is the one that `outbound` obeys, for those that speak other protocols."""
    return [HttpRequest(outbound), Email(SmtpClient(policy)), *slack_nodes(outbound), SqlQuery(policy)]
