"""The wire: messages, the transports that carry them, the transcript of what was carried, and who saw what."""

from gradwire.wire.collective import Collective
from gradwire.wire.message import EVERYONE, SERVER, Message, client
from gradwire.wire.parameter_server import ParameterServer
from gradwire.wire.protocol import ClientHalf, Deal, Dropped, Send, ServerHalf, Tensors, drop_out
from gradwire.wire.transcript import Record, Transcript
from gradwire.wire.transport import InProcess, Transport
from gradwire.wire.view import BUFFERS, Own, View

__all__ = [
    "BUFFERS",
    "EVERYONE",
    "SERVER",
    "ClientHalf",
    "Collective",
    "Deal",
    "Dropped",
    "InProcess",
    "Message",
    "Own",
    "ParameterServer",
    "Record",
    "Send",
    "ServerHalf",
    "Tensors",
    "Transcript",
    "Transport",
    "View",
    "client",
    "drop_out",
]
