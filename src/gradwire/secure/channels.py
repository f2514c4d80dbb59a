"""Sealed channels: messages between clients that the server passes on and cannot read, change or replay."""

from gradwire.errors import WireError
from gradwire.secure.identity import Gathering
from gradwire.secure.kdf import derive

TAG_BYTES = 16
# A sealing key serves one message, from one party to one other in one round, so that its nonce need not vary.
_NONCE = bytes(12)


def seal(key: bytes, plain: bytes, context: bytes) -> bytes:
    """Encrypt and authenticate `plain` by ChaCha20-Poly1305; the key is used once, `context` is authenticated too."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305(key).encrypt(_NONCE, plain, context)


def unseal(key: bytes, sealed: bytes, context: bytes, what: str) -> bytes:
    """What `seal` sealed with this key in this context; WireError about `what` if it was not, or was changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed, context)
    except InvalidTag:
        raise WireError(f"{what} cannot be opened: sealed in another round, by another party, or changed") from None


def seal_share(gathering: Gathering, secret: bytes, share: bytes, sender: int, receiver: int) -> bytes:
    """A client's shares for the client at another place, sealed under the secret that the two have agreed on."""
    context = gathering.context(sender, receiver)
    return seal(derive(secret, "share", *context), share, b"\n".join(context))


def unseal_share(gathering: Gathering, secret: bytes, sealed: bytes, sender: int, receiver: int) -> bytes:
    """The shares; WireError if they are not from that sender, not to that receiver or not of this round."""
    context, what = gathering.context(sender, receiver), f"{gathering.where('shares', sender)}: its share"
    return unseal(derive(secret, "share", *context), sealed, b"\n".join(context), what)
