"""The wire: messages, the transports that carry them, the transcript of what was carried, and who saw what."""

from gradwire.wire.collective import Collective
from gradwire.wire.message import EVERYONE, SERVER, Message, client
from gradwire.wire.need import Need, check_carrier
from gradwire.wire.parameter_server import ParameterServer
from gradwire.wire.protocol import ClientHalf, Deal, Dropped, Send, ServerHalf, Tensors, drop_out, wide
from gradwire.wire.session import ClientSession, ServerSession
from gradwire.wire.transcript import Record, Transcript
from gradwire.wire.transport import InProcess, Transport
from gradwire.wire.view import BUFFERS, WEIGHTS, Own, View

__all__ = [
    "BUFFERS",
    "EVERYONE",
    "SERVER",
    "WEIGHTS",
    "ClientHalf",
    "ClientSession",
    "Collective",
    "Deal",
    "Dropped",
    "InProcess",
    "Message",
    "Need",
    "Own",
    "ParameterServer",
    "Record",
    "Send",
    "ServerHalf",
    "ServerSession",
    "Tensors",
    "Transcript",
    "Transport",
    "View",
    "check_carrier",
    "client",
    "drop_out",
    "wide",
]
