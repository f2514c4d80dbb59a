"""The wire: messages, the transports that carry them, the transcript of what was carried, and who saw what."""

from gradwire.wire.message import EVERYONE, SERVER, Message, client
from gradwire.wire.protocol import ClientHalf, Deal, Dropped, Send, ServerHalf, Tensors, drop_out
from gradwire.wire.transcript import Record, Transcript
from gradwire.wire.transport import InProcess
from gradwire.wire.view import View

__all__ = [
    "EVERYONE",
    "SERVER",
    "ClientHalf",
    "Deal",
    "Dropped",
    "InProcess",
    "Message",
    "Record",
    "Send",
    "ServerHalf",
    "Tensors",
    "Transcript",
    "View",
    "client",
    "drop_out",
]
