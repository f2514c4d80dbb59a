"""What follows exactly from what was sent: certificates, and attacks in closed form."""

from gradwire.attacks.inversion.exact.attack import Exact
from gradwire.attacks.inversion.exact.certificate import Certificate, KnownParameter, certificates, certify

__all__ = ["Certificate", "Exact", "KnownParameter", "certificates", "certify"]
